"""Tests that a server with a request log can start while Redis is full, or goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import structlog

from jobs.errors import RedisAway, RedisFull
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from jobs.subject_hash import SALT_BYTES, read_salt
from server import request_log
from server.access.principal import Principal
from server.api.problem import Problem
from server.app import SERVER
from server.request_log import RequestLog
from tests.server.conftest import Serve

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
    assert SALT_BYTES == len(requests._salt or b"")
    assert await fill.call("GET", SALT) is None


async def test_a_server_starts_if_redis_goes_away_after_the_check(
    serve: Serve, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = [RedisAway("the connection to Redis was lost")]

    async def read(from_pipe: Pipe) -> bytes:
        if outages:
            raise outages.pop()
        return await read_salt(from_pipe)

    monkeypatch.setattr(request_log, "read_salt", read)
    client = await serve(request_log="on")
    assert await read_salt(pipe) == client.app[SERVER].requests._salt


async def test_an_end_user_is_not_named_before_the_salt_is_known(pipe: Pipe) -> None:
    """A hash without the salt would reveal the user to anybody who guesses the name."""
    requests, anna = RequestLog("on"), Principal("acme", "anna")
    with structlog.testing.capture_logs() as logs:
        requests.refused("POST /v1/responses", Problem(503, "service_unavailable", ""), anna)
        await requests.load(pipe)
        requests.refused("POST /v1/responses", Problem(503, "service_unavailable", ""), anna)
    before, after = (line["subject_hash"] for line in logs)
    assert before is None
    assert after
