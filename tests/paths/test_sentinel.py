"""Tests connections by Sentinels: failovers, a frozen master, and a partitioned Sentinel."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from jobs.errors import RedisAway
from jobs.redis import sentinel
from jobs.redis.connection import Redis
from jobs.redis.sentinel import Sentinels
from tests.paths.topologies.several import wait_for_promotion, with_sentinels
from tests.system import free_port, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.redis.sentinel import Place


async def test_an_idle_connection_to_a_replaced_master_is_closed(tmp_path: Path) -> None:
    async with with_sentinels(tmp_path) as (url, master, replica), Sentinels(url).pipe() as pipe:
        await pipe.call("SET", "key", "before")
        before = pipe._wire
        master.signal(signal.SIGSTOP)
        try:
            await wait_for_promotion(replica)
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


@pytest.mark.parametrize("named", ["a replica", "no running Redis"])
async def test_a_partitioned_sentinel_neither_prevents_nor_closes_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """After a failover, a partitioned Sentinel still names the old master."""
    monkeypatch.setattr(sentinel, "WATCH_SECONDS", 0.5)
    async with with_sentinels(tmp_path, sentinels=2) as (url, master, replica):
        sentinels, asked = Sentinels(url), list[Redis]()
        partitioned = sentinels._sentinels[0]
        named_by = sentinels._named_by
        old_master = replica.port if named == "a replica" else free_port()

        async def named_by_each(asked_one: Redis) -> Place | None:
            asked.append(asked_one)
            if asked_one is partitioned:
                return "127.0.0.1", str(old_master)
            return await named_by(asked_one)

        monkeypatch.setattr(sentinels, "_named_by", named_by_each)
        async with sentinels.pipe() as pipe:
            await pipe.call("SET", "key", "value")
            assert b"value" == await master.call("GET", "key")
            connection = pipe._wire
            # The next turn of the other Sentinel begins after this one's reply was judged.
            asked.clear()
            await wait_until(lambda: partitioned in asked and asked[-1] is not partitioned)
            assert connection is pipe._wire
