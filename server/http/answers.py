"""JSON answers, refusals as HTTP answers, and how the body of any answer is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.payload import Payload

from server.api.frames import encode

from .timeouts import bound_buffers, write_deadline

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from server.api.problem import Problem

PIECE_BYTES: Final = 65_536


def json_answer(value: dict[str, Any]) -> web.Response:
    """A JSON answer."""
    return encoded_answer(encode(value))


def encoded_answer(json: bytes) -> web.Response:
    """A JSON answer that is encoded already."""
    return web.Response(body=json, content_type="application/json")


def error_answer(problem: Problem) -> web.Response:
    """The standard's error object, with the headers that belong to it."""
    answer = json_answer({"error": problem.error})
    answer.set_status(problem.status)
    answer.headers.update(problem.headers)
    return answer


class PacedBody(Payload):
    """A body that is written in pieces, at the pace of its client.

    The process holds one piece of it for each client, and the body itself once. A client that does
    not read is dropped.
    """

    def __init__(self, data: bytes, request: web.Request) -> None:
        super().__init__(data)
        self._size = len(data)
        self._request = request

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """The body as text."""
        text: str = self._value.decode(encoding, errors)
        return text

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Returns when the kernel has taken all of it. Raises: ConnectionError."""
        if (transport := self._request.transport) is not None:
            bound_buffers(transport, 0)
        whole = memoryview(self._value)
        for start in range(0, len(whole), PIECE_BYTES):
            async with write_deadline(self._request):
                await writer.write(whole[start : start + PIECE_BYTES])
                await writer.drain()


def pace(request: web.Request, response: web.StreamResponse) -> None:
    """Has the body of an answer written at the pace of its client; a stream has a pace already."""
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        response.body = PacedBody(response.body, request)
