"""Tests that a server with a request log can start while Redis is full."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobs.errors import RedisFull
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from jobs.subject_hash import SALT_BYTES, read_salt
from server.request_log import RequestLog

SALT = Partition(0).salt


@pytest.fixture
async def fill(pipe: Pipe) -> AsyncIterator[Pipe]:
    """Makes Redis refuse to store anything after `CONFIG SET maxmemory 1`."""
    yield pipe
    await pipe.call("CONFIG", "SET", "maxmemory", 0)


async def test_the_salt_is_read_while_redis_is_full(fill: Pipe) -> None:
    salt = await read_salt(fill)
    await fill.call("CONFIG", "SET", "maxmemory", 1)
    assert salt == await read_salt(fill)


async def test_a_server_has_its_own_salt_if_redis_is_full_and_has_none(fill: Pipe) -> None:
    await fill.call("DEL", SALT)
    await fill.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(RedisFull):
        await read_salt(fill)
    requests = RequestLog("on")
    await requests.load(fill)
    assert SALT_BYTES == len(requests._salt)
    assert await fill.call("GET", SALT) is None
