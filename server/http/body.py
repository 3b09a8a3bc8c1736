"""Reads and decodes a request's body, with a deadline and a size limit.

aiohttp can decode bodies too, but its answer to an unsupported encoding does not have the shape of
the standard's errors. The server therefore runs with `auto_decompress` off.
"""

from __future__ import annotations

import asyncio
import zlib
from typing import Any, Final

from aiohttp import web

from server.api.problem import Problem
from server.api.request import check_key

KEY_HEADER: Final = "Idempotency-Key"
ENCODINGS: Final = frozenset({"identity", "gzip", "x-gzip", "deflate"})
# Values of zlib's `wbits`: the first detects a gzip or zlib header, the second expects no header.
ANY_HEADER: Final = 47
NO_HEADER: Final = -15


async def read_body(request: web.Request, seconds: float) -> bytes:
    """Reads a request's body within `seconds` and returns the decoded body.

    Raises: Problem, HTTPRequestEntityTooLarge, ConnectionResetError.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ENCODINGS:
        raise Problem(
            415,
            "unsupported_encoding",
            "The Content-Encoding must be gzip, deflate or identity.",
        )
    try:
        if request.content.is_eof():  # the usual case: the body arrived together with the head
            body = await _received(request)
        else:
            async with asyncio.timeout(seconds):
                body = await _received(request)
    except TimeoutError:
        raise Problem(
            408,
            "request_too_slow",
            f"The body did not arrive within {seconds:g} seconds. Send it again.",
        ) from None
    return body if encoding == "identity" else _decoded(body, request.client_max_size)


async def _received(request: web.Request) -> bytes:
    """Reads the body without `request.read()`, which would hold the body until the answer.

    Raises: HTTPRequestEntityTooLarge; ConnectionResetError if the client is gone.
    """
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > request.client_max_size:
            raise web.HTTPRequestEntityTooLarge(
                max_size=request.client_max_size, actual_size=len(body)
            )
    return bytes(body)


def _decoded(body: bytes, most: int) -> bytes:
    """Decompresses a body, up to `most` bytes.

    Raises: Problem; HTTPRequestEntityTooLarge, as soon as `most` bytes are exceeded.
    """
    # Some clients send "deflate" bodies without a zlib header. The first byte of a zlib header ends
    # in the hex digit 8.
    header = body[:2] == b"\x1f\x8b" or (body[:1] and body[0] & 0x0F == 8)
    unpack = zlib.decompressobj(wbits=ANY_HEADER if header else NO_HEADER)
    try:
        decoded = unpack.decompress(body, most + 1)
    except zlib.error:
        raise _damaged() from None
    if len(decoded) > most:
        raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=len(decoded))
    if not unpack.eof:
        raise _damaged()
    return decoded


def _damaged() -> Problem:
    return Problem(400, "undecodable_body", "The body does not match its Content-Encoding.")


def with_key(request: web.Request, body: dict[str, Any]) -> dict[str, Any]:
    """Returns the body with the header's idempotency key, which overrides a key in the body.

    Raises: Problem if the key in the body is invalid.
    """
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return body
    if body.get("idempotency_key") is not None:
        check_key(body["idempotency_key"])
    return {**body, "idempotency_key": key}
