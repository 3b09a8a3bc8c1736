"""Tests that the check of Redis describes a suitable server and names any wrong setting."""

from __future__ import annotations

import pytest

from jobs.errors import RedisAway, RedisNotReady, RedisRefused, RedisUnsuitable
from jobs.redis import check as check_module
from jobs.redis.check import check, check_until_available
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.redis.users import as_user


async def test_a_suitable_redis_is_described_in_one_line(pipe: Pipe) -> None:
    found = await check(pipe)

    assert "\n" not in found
    assert found.startswith(("Redis ", "Valkey "))


async def test_a_redis_that_evicts_keys_is_refused_with_the_setting_to_change(pipe: Pipe) -> None:
    await pipe.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(RedisUnsuitable, match="CONFIG SET maxmemory-policy noeviction"):
            await check(pipe)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_redis_version_that_is_too_old_is_refused(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def old(*command: str) -> bytes:
        return b"# Server\r\nredis_version:6.2.14\r\n"

    monkeypatch.setattr(pipe, "call", old)

    with pytest.raises(RedisUnsuitable, match=r"Redis 6\.2\.14 is too old"):
        await check(pipe)


async def test_a_missing_password_stops_the_start(pipe: Pipe, redis: Redis) -> None:
    await pipe.call("CONFIG", "SET", "requirepass", "secret")
    try:
        async with Pipe(redis, deadline=0.5) as other:
            with pytest.raises(RedisRefused, match="REDIS_URL has no password"):
                await check_until_available(other, unexpected)
    finally:
        await pipe.call("CONFIG", "SET", "requirepass", "")


async def test_a_wrong_password_stops_the_start(pipe: Pipe, redis_url: str) -> None:
    await pipe.call("ACL", "SETUSER", "someone", "on", ">right", "+@all", "~*")
    url = as_user(redis_url, "someone:wrong")
    try:
        async with Pipe(Redis(url), deadline=0.5) as other:
            with pytest.raises(RedisRefused, match="WRONGPASS invalid username-password pair"):
                await check_until_available(other, unexpected)
    finally:
        await pipe.call("ACL", "DELUSER", "someone")


async def test_a_user_who_may_not_publish_sharded_messages_stops_the_start(
    pipe: Pipe, redis_url: str
) -> None:
    rules = ("~*", "&*", "+@all", "-spublish")
    await pipe.call("ACL", "SETUSER", "old", "on", ">right", *rules)
    url = as_user(redis_url, "old:right")
    try:
        async with Pipe(Redis(url)) as other:
            with pytest.raises(RedisRefused, match=r"NOPERM .*spublish"):
                await check_until_available(other, unexpected)
    finally:
        await pipe.call("ACL", "DELUSER", "old")


async def test_a_transient_error_is_retried_at_the_start(
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


def unexpected(error: RedisAway) -> None:
    raise AssertionError(error)
