"""Calls the model's chat completions, and reads the streamed reply."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from torture.broken.events import Json

CONNECT_SECONDS: Final = 5.0
STALL_SECONDS: Final = 5.0
MAX_LINE_BYTES: Final = 1 << 20


class ModelError(Exception):
    """The model did not answer. `code` is an error code of the Responses API."""

    def __init__(self, message: str, code: str = "server_error") -> None:
        super().__init__(message)
        self.code = code


class CutError(ModelError):
    """The model's stream ended without a finish reason."""


def session() -> ClientSession:
    timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=STALL_SECONDS)
    return ClientSession(timeout=timeout, read_bufsize=MAX_LINE_BYTES)


async def pieces(client: ClientSession, url: str, body: Json) -> AsyncGenerator[tuple[str, str]]:
    """Yields the text pieces of an answer, each with the finish reason or an empty string.

    The last one has a finish reason. Closing the iterator closes the call's connection.

    Raises:
        ModelError: The call failed. Its message names the cause, and contains nothing of the reply.
    """
    try:
        async with client.post(f"{url}/chat/completions", json={**body, "stream": True}) as reply:
            if reply.status != 200:
                code = "rate_limit_exceeded" if reply.status == 429 else "server_error"
                raise ModelError(f"The model's endpoint answered with status {reply.status}.", code)
            if reply.content_type != "text/event-stream":
                raise ModelError(f"The model's endpoint answered with {reply.content_type}.")
            async for line in reply.content:
                data = line.decode().removeprefix("data:").strip()
                if not line.startswith(b"data:") or data == "[DONE]":
                    continue
                piece, reason = _piece(data)
                if piece or reason:
                    yield piece, reason
                if reason:
                    return
    except TimeoutError:
        raise ModelError("The model's endpoint did not answer in time.") from None
    except (ClientError, ValueError) as error:
        raise CutError(f"The model's stream broke: {type(error).__name__}.") from None
    raise CutError("The model's stream ended without a finish reason.")


def _piece(data: str) -> tuple[str, str]:
    chunk = json.loads(data)
    if not isinstance(chunk, dict) or "error" in chunk:
        raise ModelError("The model's endpoint reported an error in its stream.")
    choices = chunk.get("choices") or [{}]
    text = (choices[0].get("delta") or {}).get("content") or ""
    return text, choices[0].get("finish_reason") or ""
