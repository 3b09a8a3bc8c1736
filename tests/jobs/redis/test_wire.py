"""Tests a single Redis connection: opening, closing, received data and raised exceptions."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jobs.errors import RedisAway
from jobs.redis.connection import Redis
from jobs.redis.wire import pack
from tests.system import wait_until


async def test_connecting_to_a_stopped_redis_fails(tmp_path: Path) -> None:
    for url in (f"unix://{tmp_path}/nobody.sock", "redis://127.0.0.1:1"):
        with pytest.raises(RedisAway, match="cannot connect"):
            await Redis(url).open()


async def test_an_error_in_the_take_callback_is_raised(redis: Redis) -> None:
    def take(message: object) -> None:
        raise LookupError(message)

    wire = await redis.open()
    failures: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, found: failures.append(found))
    wire.send(pack("ECHO", "hello"))
    with pytest.raises(LookupError, match="hello"):
        await wire.receive(take)
    wire.close()
    assert 1 == len(failures)


async def test_bytes_that_arrive_before_receive_are_not_lost(redis: Redis) -> None:
    wire = await redis.open()
    replies: list[object] = []

    def take(message: object) -> None:
        replies.append(message)
        if len(replies) == 2:
            wire.close()

    wire.send(pack("ECHO", "early"))
    await wait_until(lambda: wire.reader._buffer)  # type: ignore[attr-defined]  # it has come
    wire.send(pack("ECHO", "late"))
    await wire.receive(take)
    assert [b"early", b"late"] == replies


async def test_closing_a_connection_twice_is_harmless(redis: Redis) -> None:
    wire = await redis.open()
    wire.close()
    wire.close()

    assert b"" == await wire.reader.read()
