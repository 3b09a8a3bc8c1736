"""The check of a Redis: suitable ones are described, others refused with the setting to change."""

from __future__ import annotations

import pytest

from jobs.errors import RedisAway, RedisNotReady, RedisUnsuitable
from jobs.redis import check as check_module
from jobs.redis.check import check, check_until_available
from jobs.redis.pipe import Pipe


async def test_a_redis_that_will_do_is_described_in_one_line(pipe: Pipe) -> None:
    found = await check(pipe)

    assert "\n" not in found
    assert found.startswith(("Redis ", "Valkey "))


async def test_a_redis_that_evicts_is_refused_with_what_to_set(pipe: Pipe) -> None:
    await pipe.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(RedisUnsuitable, match="CONFIG SET maxmemory-policy noeviction"):
            await check(pipe)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_redis_that_is_too_old_is_refused(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def old(*command: str) -> bytes:
        return b"# Server\r\nredis_version:6.2.14\r\n"

    monkeypatch.setattr(pipe, "call", old)

    with pytest.raises(RedisUnsuitable, match=r"Redis 6\.2\.14 is too old"):
        await check(pipe)


async def test_an_error_that_passes_is_waited_for_at_the_start(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = pipe.call
    told: list[RedisAway] = []

    async def busy(*command: str) -> object:
        monkeypatch.setattr(pipe, "call", call)
        raise RedisNotReady("BUSY", "BUSY Redis is busy running a script.")

    monkeypatch.setattr(pipe, "call", busy)
    monkeypatch.setattr(check_module, "NOT_READY_PAUSE_SECONDS", 0.01)

    assert await check_until_available(pipe, told.append)
    assert ["BUSY"] == [error.code for error in told if isinstance(error, RedisNotReady)]
