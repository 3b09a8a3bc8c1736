"""Tests that an unavailable partition of a cluster keeps no other partition from being served."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.each_partition import each_partition
from jobs.errors import RedisAway
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import SharedSettings
from jobs.redis.pipe import Pipe

SETTINGS = SharedSettings(partitions=range(3))


async def test_all_partitions_are_visited_before_the_first_error_is_raised() -> None:
    visited = []

    async def visit(number: int) -> None:
        visited.append(number)
        if number < 2:
            raise RedisAway(f"{number} is away")

    with pytest.raises(RedisAway, match="0 is away"):
        await each_partition(range(4), visit)
    assert [0, 1, 2, 3] == visited


async def test_a_model_is_paused_in_the_other_partitions(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Pipe.run

    async def ran(self: Pipe, script: Any) -> Any:
        if Partition(0).prefix in repr(script):
            raise RedisAway("away")
        return await run(self, script)

    monkeypatch.setattr(Pipe, "run", ran)
    with pytest.raises(RedisAway):
        await Queue(pipe, SETTINGS).pause("m", 60)
    monkeypatch.undo()
    keys = [Partition(number).pause("m") for number in range(3)]
    assert [0, 1, 1] == [await pipe.call("EXISTS", key) for key in keys]
