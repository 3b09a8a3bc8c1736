"""Tests frames that violate RFC 6455: the applicable Autobahn cases of sections 2 to 7.

The Autobahn suite itself cannot be used here, because it requires an echo server.
"""

from __future__ import annotations

import asyncio
import struct

import pytest

from tests.attacks.conftest import Target
from tests.attacks.raw import BINARY, CLOSE, PING, PONG, TEXT, Raw, frame

CONTINUED = 0
REFUSED: dict[str, tuple[int, bytes]] = {
    "reserved bit 1, as deflate would set it": (1002, frame(b"{}", rsv=4)),
    "reserved bit 2": (1002, frame(b"{}", rsv=2)),
    "reserved bit 3": (1002, frame(b"{}", rsv=1)),
    "reserved bit on a ping": (1002, frame(b"", PING, rsv=4)),
    "a deflate bomb": (1002, frame(b"\xed\xc1\x01\x01" + b"\x00" * 60_000, BINARY, rsv=4)),
    **{f"opcode {n}": (1002, frame(b"", n)) for n in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "a fragmented ping": (1002, frame(b"a", PING, fin=False)),
    "a fragmented close": (1002, frame(b"\x03\xe8", CLOSE, fin=False)),
    "an oversized ping": (1002, frame(b"a" * 126, PING)),
    "an oversized pong": (1002, frame(b"a" * 126, PONG)),
    "an oversized close": (1002, frame(b"\x03\xe8" + b"a" * 124, CLOSE)),
    "a continuation without a start": (1002, frame(b"a", CONTINUED)),
    "a continuation after the final fragment": (1002, frame(b"{}") + frame(b"a", CONTINUED)),
    "a message inside a fragmented message": (1002, frame(b"{", fin=False) + frame(b"}", TEXT)),
    "a close with one byte": (1002, frame(b"\x03", CLOSE)),
    "text that is not UTF-8": (1007, frame(b"\xff\xfe")),
    "fragmented text that is not UTF-8": (
        1007,
        frame(b"\xce", fin=False) + frame(b"\xce", CONTINUED),
    ),
    "a surrogate in UTF-8": (1007, frame(b"\xed\xa0\x80")),
    "a message above the limit": (1009, frame(b"a", length=2**20 + 1)),
    "a claimed length of 4 GiB": (1009, frame(b"a", length=2**32)),
    "a claimed length of 8 EiB": (1009, frame(b"a", length=2**63 - 1)),
    "a length with its highest bit set": (1009, frame(b"a", length=2**64 - 1)),
    "fragments above the limit": (
        1009,
        frame(b"a" * 600_000, fin=False) + frame(b"a" * 600_000, CONTINUED),
    ),
}


async def test_an_invalid_frame_closes_only_its_own_socket(
    target: Target,
) -> None:
    async def refused(name: str, code: int, data: bytes) -> None:
        async with Raw(target.url) as raw:
            assert 101 == (await raw.upgrade())[0]
            await raw.send(data)
            assert code == await raw.closed(), name

    async with Raw(target.url) as bystander:
        assert 101 == (await bystander.upgrade())[0]
        for name, (code, data) in REFUSED.items():
            await refused(name, code, data)
        await bystander.send(frame(b'{"type":"holdline:ping","id":1}'))
        assert 1 == (await bystander.message("holdline:pong"))["id"]


@pytest.mark.parametrize("parts", [1, 2, 31])
async def test_pings_between_the_fragments_of_a_message_are_allowed(
    target: Target, parts: int
) -> None:
    text = b'{"type":"holdline:ping","id":"\xc3\xa9"}'
    size = -(-len(text) // parts)
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    async with Raw(target.url) as raw:
        await raw.upgrade()
        for number, piece in enumerate(pieces):
            opcode = CONTINUED if number else TEXT
            await raw.send(frame(piece, opcode, fin=number == len(pieces) - 1))
            await raw.send(frame(b"between", PING))
        assert "é" == (await raw.message("holdline:pong"))["id"]


async def test_a_pong_returns_the_payload_of_its_ping(target: Target) -> None:
    async with Raw(target.url) as raw:
        await raw.upgrade()
        for payload in (b"", b"hello", bytes(range(125))):
            await raw.send(frame(payload, PING))
            async with asyncio.timeout(10):
                while (found := await raw.next())[0] != PONG:
                    pass
            assert payload == found[1]


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 65535])
async def test_an_invalid_close_code_closes_the_socket(target: Target, code: int) -> None:
    async with Raw(target.url) as raw:
        await raw.upgrade()
        await raw.send(frame(struct.pack("!H", code), CLOSE))
        await raw.rest()


async def test_garbage_instead_of_frames_closes_the_socket(target: Target) -> None:
    for garbage in (b"\x00" * 4096, b"\xff" * 4096, b"GET / HTTP/1.1\r\n\r\n" * 100):
        async with Raw(target.url) as raw:
            await raw.upgrade()
            await raw.send(garbage)
            raw.done()
            await raw.rest()


async def test_permessage_deflate_is_never_negotiated(target: Target) -> None:
    async with Raw(target.url) as raw:
        status, head = await raw.upgrade("Sec-WebSocket-Extensions: permessage-deflate")
    assert 101 == status
    assert b"extensions" not in head.lower()


async def test_an_endless_fragmented_message_is_closed_at_the_size_limit(target: Target) -> None:
    async with Raw(target.url) as raw:
        await raw.upgrade()
        await raw.send(frame(b"[", fin=False))
        for _ in range(80):
            await raw.send(frame(b"[", CONTINUED, fin=False) * 16_384)
        assert 1009 == await raw.closed(30)


MESSAGES = [
    b"",
    b"null",
    b"[]",
    b'"a"',
    b"[" * 100_000,
    b'{"type":"response.create","input":' + b"[" * 100_000,
    b'{"type":' * 50_000,
    b'{"type":"response.create","input":' + b'{"a":' * 900 + b"1" + b"}" * 901,
    b'{"type":"holdline:ping","id":1e400}',
    b'{"type":"holdline:ping","id":' + b"9" * 10_000 + b"}",
    b'{"type":"holdline:ping","id":NaN}',
    b'{"type":"\\ud800"}',
    b'{"type":"\\u0000\\u001b[2J"}',
    b'{"type":{"type":{"type":{}}}}',
    b'{"type":"holdline:resume","response_id":"resp_' + b"0" * 90_000 + b'"}',
    b'{"type":"holdline:resume","response_id":"resp_000","starting_after":-2}',
    b'{"type":"holdline:resume","response_id":"x","starting_after":99999999999999999999}',
    b'{"type":"response.cancel","response_id":"../../etc/passwd"}',
    b'{"type":"holdline:auth","token":"' + b"a" * 20_000 + b'"}',
]


async def test_an_invalid_message_gets_an_error_and_the_socket_stays_open(
    target: Target,
) -> None:
    async with Raw(target.url) as raw:
        await raw.upgrade()
        for text in MESSAGES:
            await raw.send(frame(text))
            error = await raw.message("error")
            assert error["error"]["code"]
            assert len(str(error)) < 2000, "the error echoes the input"


BOMBS = [
    b"\xc1",
    b"\xdf\xff\xff\xff\xff",  # announces a map of 4 billion pairs
    b"\xdd\xff\xff\xff\xff",  # announces a list of 4 billion elements
    b"\xdb\xff\xff\xff\xff",  # announces a string of 4 GiB
    b"\xc6\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x00",
    b"\x81\xa1a" + b"\x91" * 1000 + b"\xc0",
    b"\x91" * 100_000,
    b"\x81\xa1a" * 300_000 + b"\xc0",
    b"\x81\xa1a\xdd\x00\x0f\xff\x00" + b"\x80" * 0x0FFF00,  # a megabyte of empty maps
    b"\x81\xa4type\xd6\xff\x00\x00\x00\x00",
    b"\x81\xa4type\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\x81\xa4type\xc7\x0c\xff" + b"\xff" * 12,
    b"\x81\x01\x02",
    b"\x81\xc0\xc0",
    b"\x81\xa1\xff\xc0",
    b"\x80\x80",
    b"",
]


async def test_a_messagepack_bomb_gets_an_error_and_the_socket_stays_open(target: Target) -> None:
    async with Raw(target.url) as raw:
        assert 101 == (await raw.upgrade("Sec-WebSocket-Protocol: holdline.msgpack"))[0]
        # Read the welcome message.
        await raw.next()
        for bomb in BOMBS:
            await raw.send(frame(bomb, BINARY))
            async with asyncio.timeout(10):
                opcode, payload = await raw.next()
            assert BINARY == opcode, bomb[:20]
            assert b"error" in payload
            assert len(payload) < 2000
