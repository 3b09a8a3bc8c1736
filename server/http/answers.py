"""Builds JSON and error responses, and paces the writing of response bodies."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.payload import Payload

from runtime.deadline import Deadline
from server.api.frames import encode

from .timeouts import bound_buffers, write_in_time

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from server.api.problem import Problem

PIECE_BYTES: Final = 65_536


def json_answer(value: dict[str, Any]) -> web.Response:
    """Returns an HTTP response whose body is this value as JSON."""
    return encoded_answer(encode(value))


def encoded_answer(json: bytes) -> web.Response:
    """Returns an HTTP response whose body is already encoded JSON."""
    return web.Response(body=json, content_type="application/json")


def error_answer(problem: Problem) -> web.Response:
    """Returns an HTTP response with the standard's error object and its headers."""
    answer = json_answer({"error": problem.error})
    answer.set_status(problem.status)
    answer.headers.update(problem.headers)
    return answer


class PacedBody(Payload):
    """A body that is written in pieces, at the pace of its client.

    The process holds one copy of the body, and one piece of the body per client. If a client does
    not read, its connection is dropped.
    """

    def __init__(self, data: bytes, request: web.Request) -> None:
        super().__init__(data)
        self._size = len(data)
        self._request = request

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Returns the body as text."""
        text: str = self._value.decode(encoding, errors)
        return text

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Writes the body, and returns once the kernel has accepted all of it.

        Raises: ConnectionError.
        """
        if (transport := self._request.transport) is not None:
            bound_buffers(transport, 0)
        whole = memoryview(self._value)
        with contextlib.closing(Deadline()) as deadline:
            for start in range(0, len(whole), PIECE_BYTES):
                piece = whole[start : start + PIECE_BYTES]
                await write_in_time(self._request, deadline, writer.write(piece))
                await write_in_time(self._request, deadline, writer.drain())


def pace(request: web.Request, response: web.StreamResponse) -> None:
    """Replaces a response's body with a `PacedBody`, except for streams, which pace themselves."""
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        response.body = PacedBody(response.body, request)
