"""Tests that Sentinels replace a frozen master, which receives no writes even after it resumes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from jobs.errors import RedisAway
from jobs.redis.sentinel import Sentinels
from tests.paths.topologies.several import with_sentinels
from tests.system import wait_until

if TYPE_CHECKING:
    from pathlib import Path


async def test_an_idle_connection_to_a_replaced_master_is_closed(tmp_path: Path) -> None:
    async with with_sentinels(tmp_path) as (url, master, replica), Sentinels(url).pipe() as pipe:
        await pipe.call("SET", "key", "before")
        before = pipe._wire
        master.signal(signal.SIGSTOP)
        try:

            async def promoted() -> bool:
                return bool([b"master"] == (await replica.call("ROLE"))[:1])

            await wait_until(promoted, 30)
            # This client sends no commands, so only the Sentinels' announcement can close its
            # connection.
            await wait_until(lambda: pipe._wire not in (before, None), 10)
            await pipe.call("SET", "key", "after")
            assert b"after" == await replica.call("GET", "key")
        finally:
            master.signal(signal.SIGCONT)
        # The old master accepts writes until a Sentinel makes it a replica.
        for number in range(20):
            await pipe.call("SET", "key", number)
            assert f"{number}".encode() == await replica.call("GET", "key")


async def test_a_replica_is_not_accepted_as_the_master(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with with_sentinels(tmp_path, sentinels=1) as (url, _, replica):

        async def named(*_: object) -> tuple[str, str]:
            return "127.0.0.1", str(replica.port)

        sentinels = Sentinels(url)
        monkeypatch.setattr(sentinels, "_named_by", named)
        with pytest.raises(RedisAway, match="no Sentinel knows a master"):
            (await sentinels.open()).close()
