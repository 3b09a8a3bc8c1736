"""Tests that recently used API keys are soon accepted again even if Redis does not respond."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from jobs.errors import RedisAway
from server.access import api_key_store, api_keys
from server.access.api_key_store import RedisKeys


class SilentPipe:
    """A pipe whose Redis stops responding, so that commands fail at their deadline."""

    def __init__(self, record: bytes) -> None:
        self.record = record
        self.silent = False

    async def call(self, *_: Any) -> bytes:
        if self.silent:
            await asyncio.sleep(1.5)  # longer than the time-out of a command
            raise RedisAway("deadline")
        return self.record


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> tuple[RedisKeys, SilentPipe, str]:
    monkeypatch.setattr(api_key_store, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(api_key_store, "KNOWN_WAIT_SECONDS", 0.05)
    id_ = api_keys.new_id()
    _, secret = api_keys.new_key(id_)
    record = api_keys.Record(id=id_, tenant="acme", scopes=["create"], secrets=[secret])
    pipe = SilentPipe(api_keys.encode(record))
    return RedisKeys(pipe), pipe, id_  # type: ignore[arg-type]


async def test_a_known_key_is_accepted_after_a_short_wait_for_redis(
    known: tuple[RedisKeys, SilentPipe, str],
) -> None:
    keys, pipe, id_ = known
    record = await keys.get(id_)
    pipe.silent = True
    began = time.monotonic()
    assert record == await keys.get(id_)
    assert time.monotonic() - began < 1.0


async def test_an_unknown_key_waits_for_the_full_command_timeout(
    known: tuple[RedisKeys, SilentPipe, str],
) -> None:
    keys, pipe, id_ = known
    pipe.silent = True
    with pytest.raises(RedisAway):
        await keys.get(id_)
