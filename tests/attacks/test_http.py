"""Tests malformed HTTP requests, request smuggling, hostile paths and forged origins."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.attacks.conftest import REQUEST_SECONDS, Target
from tests.attacks.raw import Raw

BODY = b'{"input":"tokens=1","model":"m"}'
HEAD = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = b"GET /livez?smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

# A proxy and the server behind it may disagree about where each of these requests ends.
SMUGGLING = {
    "both lengths": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": b"Content-Length: 0\r\nContent-Length: 50\r\n\r\n" + SMUGGLED,
    "two equal lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SMUGGLED,
    "a length with a sign": b"Content-Length: +2\r\n\r\n{}" + SMUGGLED,
    "a negative length": b"Content-Length: -2\r\n\r\n{}" + SMUGGLED,
    "a length in hex": b"Content-Length: 0x2\r\n\r\n{}" + SMUGGLED,
    "a length with an underscore": b"Content-Length: 1_0\r\n\r\n{}" + SMUGGLED,
    "a list of lengths": b"Content-Length: 2, 2\r\n\r\n{}" + SMUGGLED,
    "a space before the colon": b"Content-Length : 2\r\n\r\n{}" + SMUGGLED,
    "a folded header": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a bare line feed": b"Content-Length: 2\n\r\n{}" + SMUGGLED,
    "a chunk size with a sign": b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n"
    + SMUGGLED,
    "a chunk size in 0x": b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n" + SMUGGLED,
    "a chunk that is too long": b"Transfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n"
    + SMUGGLED,
    "a huge chunk size": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{}" + SMUGGLED,
}


@pytest.mark.parametrize("shape", SMUGGLING)
async def test_an_ambiguous_request_cannot_smuggle_another(target: Target, shape: str) -> None:
    async with Raw(target.url) as raw:
        await raw.send(HEAD + SMUGGLING[shape])
        raw.done()
        received = await raw.rest()
    statuses = [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]
    assert all(400 <= status < 500 for status in statuses), received
    assert b'"ok"' not in received


MALFORMED = [
    b"\x00\x01\x02\x03\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the start of a TLS handshake
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
    b"GET http://[::1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"G\x1b[2JT / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX\x1b: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 5\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
]


async def test_malformed_requests_are_rejected(target: Target) -> None:
    for data in MALFORMED:
        async with Raw(target.url) as raw:
            await raw.send(data)
            raw.done()
            received = await raw.rest()
        assert received[9:12] in (b"", b"400", b"404", b"405", b"417"), data[:60]
        assert len(received) < 4000, "the response echoes the input"
        if received:
            head, _, body = received.partition(b"\r\n\r\n")
            assert b"content-type: application/json" in head.lower(), data[:60]
            assert json.loads(body)["error"]["type"] == "invalid_request_error"


PATHS = [
    "/../../etc/passwd",
    "/docs/..%2f..%2fREADME.md",
    "/docs/%00",
    "/web/%2e%2e/server/app.py",
    "/v1/responses/%0d%0aSet-Cookie:%20a=b",
    "/v1/responses/..%2f..%2flivez",
    "/v1/responses/resp_%7b0%7d:",
    "/v1/responses/" + "a" * 6000,
    "/v1/models/%1b%5b2J",
    "/v1/responses/x?stream=true&starting_after=%0d%0a",
    "/v1/responses/x?starting_after=" + "9" * 5000 + "&stream=true",
    "/%ff%fe",
    "/v1/responses/%ed%a0%80",
    "//evil.example/v1/responses",
]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT", "X"])
async def test_hostile_paths_are_rejected(target: Target, method: str) -> None:
    for path in PATHS:
        async with Raw(target.url) as raw:
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
            status, head = await raw.answer(request.encode())
        assert status == 0 or 400 <= status < 500, path
        assert b"set-cookie" not in head.lower()
        assert b"root:" not in head


ORIGINS = [
    "null",
    "http://evil.example",
    "http://localhost.evil.example",
    "http://127.0.0.1.evil.example:{port}",
    "http://evil.example#127.0.0.1:{port}",
    "http://evil.example/127.0.0.1:{port}",
    "http://127.0.0.1:{port}@evil.example",
    "http://evil.example@127.0.0.1:{port}",
    "http://127.0.0.1:1",
    "http://127.0.0.1",
    "http://[::1]:{port}",
    "file://",
    "http://",
    "//127.0.0.1:{port}/",
    "http://127.0.0.1:{port}.",
    "http://127.0.0.1:{port} http://evil.example",
]


async def test_forged_origins_are_rejected_over_http_and_websocket(target: Target) -> None:
    port = target.url.rpartition(":")[2]
    for template in ORIGINS:
        origin = template.format(port=port)
        async with Raw(target.url) as raw:
            assert 403 == (await raw.upgrade(f"Origin: {origin}"))[0], origin
        async with Raw(target.url) as raw:
            lines = f"Host: 127.0.0.1:{port}\r\nOrigin: {origin}\r\nContent-Length: {len(BODY)}"
            head = f"POST /v1/responses HTTP/1.1\r\n{lines}\r\n\r\n"
            assert 403 == (await raw.answer(head.encode() + BODY))[0], origin


async def test_two_origin_headers_are_rejected(target: Target) -> None:
    good = f"Origin: {target.url}"
    async with Raw(target.url) as raw:
        assert 101 == (await raw.upgrade(good))[0]
    for pair in ((good, "Origin: http://evil.example"), ("Origin: http://evil.example", good)):
        async with Raw(target.url) as raw:
            assert (await raw.upgrade(*pair))[0] in (400, 403), pair


async def test_an_incomplete_request_head_times_out(target: Target) -> None:
    async def drip(raw: Raw) -> None:
        for byte in b"GET /livez HTTP/1.1\r\nX-Slow: " + b"a" * 10_000:
            await raw.send(bytes([byte]))
            await asyncio.sleep(0.05)  # simulates a slow client

    async with Raw(target.url) as silent, Raw(target.url) as slow:
        dripping = asyncio.create_task(drip(slow))
        try:
            assert b"" == await silent.rest(REQUEST_SECONDS + 10)
            assert b"" == await slow.rest(REQUEST_SECONDS + 10)
        finally:
            dripping.cancel()
            await asyncio.wait([dripping])


async def test_an_incomplete_body_times_out_with_408(target: Target) -> None:
    async def refused(route: str, length: str) -> None:
        async with Raw(target.url) as raw:
            head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n"
            status, _ = await raw.answer(head.encode(), REQUEST_SECONDS + 10)
            assert 408 == status, (route, length)
            assert b"request_too_slow" in await raw.rest()

    await asyncio.gather(
        *(
            refused(route, length)
            for route in ("/v1/responses", "/v1/chat/completions")
            for length in ("Content-Length: 1000", "Transfer-Encoding: chunked")
        )
    )


async def test_an_endless_chunked_body_is_rejected_at_the_size_limit(target: Target) -> None:
    async with Raw(target.url) as raw:

        async def pour() -> None:
            await raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            while not raw.writer.is_closing():
                await raw.send(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
                await asyncio.sleep(0)

        pouring = asyncio.create_task(pour())
        try:
            received = await raw.rest(30)
        finally:
            pouring.cancel()
            await asyncio.wait([pouring])
    assert received == b"" or received.startswith(b"HTTP/1.1 413")


async def test_a_compressed_body_is_limited_by_its_decompressed_size(target: Target) -> None:
    import zlib

    bomb = zlib.compress(b"a" * 200_000_000, 9)
    async with Raw(target.url) as raw:
        head = f"Content-Encoding: deflate\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
        status, _ = await raw.answer(HEAD + head + bomb)
    assert 413 == status


async def test_deeply_nested_or_invalid_json_is_rejected(target: Target) -> None:
    for body in (b"[" * 500_000, b'{"input":' + b'[{"a":' * 100_000, b'{"input":"' + b"\xff" * 9):
        async with Raw(target.url) as raw:
            head = f"Content-Length: {len(body)}\r\n\r\n".encode()
            status, _ = await raw.answer(HEAD + head + body)
            assert 400 == status
            received = await asyncio.wait_for(raw.reader.readuntil(b"}}"), 10)
            assert "invalid_json" == json.loads(received)["error"]["code"]
