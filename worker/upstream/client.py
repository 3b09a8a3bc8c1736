"""What the openai package does for a call: address, authentication, headers, transport, errors.

Its own way to a stream walks through the types of the request, and puts the same headers together
for each call; a short answer costs less than that. So the SDK makes one request that leaves for
nowhere, and every call sends its like with another body, through the SDK's transport.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, Self

import httpx2  # what the SDK sends with
import openai

from jobs.models import CHAT, RESPONSES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.config import Endpoint

CONNECT_SECONDS: Final = 10.0
_PATHS: Final = {CHAT: "/chat/completions", RESPONSES: "/responses"}
# As the SDK writes a body.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class ModelClient:
    """One endpoint. Use it as an async context manager, in the loop that uses it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._path = _PATHS[endpoint.api]
        self._options: dict[str, Any] = {
            "api_key": endpoint.api_key,
            "base_url": endpoint.base_url,
            # Retries are ours: the SDK's are hidden, and each of them may be billed.
            "max_retries": 0,
            # A read that takes long is ours as well: comments would reset the SDK's timer for ever.
            "timeout": openai.Timeout(None, connect=CONNECT_SECONDS),
        }
        self._http = openai.DefaultAioHttpClient()
        self._client = openai.AsyncOpenAI(http_client=self._http, **self._options)
        self._template: httpx2.Request | None = None

    async def __aenter__(self) -> Self:
        self._template = await self._record_template()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def send(self, arguments: dict[str, Any]) -> httpx2.Response:
        """The response to these arguments, its body unread; whoever asked has to close it.

        Raises: openai.APIStatusError, and whatever the transport raises.
        """
        response = await self._http.send(self._request(arguments), stream=True)
        if response.is_success:
            return response
        try:
            await response.aread()
            raise self._client._make_status_error_from_response(response)  # noqa: SLF001
        finally:
            await response.aclose()

    def _request(self, arguments: dict[str, Any]) -> httpx2.Request:
        assert self._template is not None  # noqa: S101 - it is a context manager
        template, body = self._template, _ENCODER.encode(arguments).encode()
        return httpx2.Request(
            template.method,
            template.url,
            headers=template.headers,
            content=body,
            extensions=template.extensions,
        )

    async def _record_template(self) -> httpx2.Request:
        """The request that the SDK would send."""
        recorder = _RecordingTransport()
        http = openai.DefaultAsyncHttpxClient(transport=recorder, trust_env=False)
        async with openai.AsyncOpenAI(http_client=http, **self._options) as client:
            with contextlib.suppress(openai.APIConnectionError):
                await client.post(self._path, body={}, cast_to=httpx2.Response)
        assert recorder.request is not None  # noqa: S101 - the SDK sends what it is told to
        del recorder.request.headers["content-length"]  # that of a body which is not sent
        return recorder.request


def iter_body(response: httpx2.Response) -> AsyncIterator[bytes]:
    """The bytes of an unread body as they come.

    Its own iterators decode, count and cut in steps of their own, all of them for each token: where
    nothing is encoded there is nothing for them to do.
    """
    if "content-encoding" in response.headers:
        return response.aiter_bytes()
    assert isinstance(response.stream, httpx2.AsyncByteStream)  # noqa: S101 - of an async client
    return aiter(response.stream)


class _RecordingTransport(httpx2.AsyncBaseTransport):
    """A transport on which no request leaves: it keeps the last one that would have."""

    request: httpx2.Request | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        raise httpx2.ConnectError("nowhere")
