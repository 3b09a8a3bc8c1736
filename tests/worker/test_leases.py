"""Tests that a refused lease renewal neither loses a job nor takes one from another worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from jobs.errors import RedisAway, RedisNotReady
from jobs.lease_store import RescuePace
from jobs.redis.wire import Wire
from jobs.scripts import SCRIPTS
from tests.system import wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness
from worker import leases as leases_module
from worker.execute import Execution
from worker.leases import Leases, RedisHealth
from worker.rescue import Rescue

PUT_OFF_SECONDS = 0.5
PARTITIONS = range(5, 45)
# The lease is so long that the worker renews only when a test demands it, even on a slow machine.
MANY_PARTITIONS = {
    "HOLDLINE_FIRST_PARTITION": str(PARTITIONS.start),
    "HOLDLINE_PARTITIONS": str(len(PARTITIONS)),
    "HOLDLINE_LEASE_SECONDS": "600",
}


async def test_after_a_refused_renewal_others_can_renew_before_the_first_rescue(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases_module, "FAILURE_PAUSE_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(leases_module, "RECONNECT_SECONDS", (0.05, PUT_OFF_SECONDS))
    await harness.submit()
    held = [harness.execution(await harness.claim())]
    renewed = refused_once(harness, monkeypatch)
    rescued: list[float] = []

    async with Rescue(harness.context) as rescue:
        monkeypatch.setattr(rescue, "rescue", recorder(rescued))
        async with Leases(harness.context, rescue, held, RedisHealth(), lambda: True):
            await wait_until(lambda: rescued)

    assert rescued[0] - renewed[0] >= PUT_OFF_SECONDS
    # The worker kept its lease, so a rescue finds no job to take.
    assert not held[0]._stopped
    assert (0, []) == await harness.context.queue.leases.rescue(0, "token")


async def test_the_renewals_of_all_partitions_are_sent_in_one_write(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = recorded_writes(monkeypatch)
    async with (
        make_harness(**MANY_PARTITIONS) as harness,
        Rescue(harness.context) as rescue,
    ):
        await harness.submit("mode=ok", partition=8)
        [grant] = await harness.context.queue.leases.claim(8, "token", 1)
        held = [Execution(harness.context, 8, grant)]
        async with Leases(harness.context, rescue, held, RedisHealth(), lambda: True) as leases:
            written.clear()
            leases._share._next = 0  # the first partition
            leases.renew_now()
            await wait_until(lambda: sum(calls_of("rescue", written)) == len(PARTITIONS))
    # Before the rescues, the worker renews again the lease of the job that it holds.
    assert [len(PARTITIONS), 1] == calls_of("extend", written)
    assert [16, 16, 8] == calls_of("rescue", written)
    both = next(data for data in written if SCRIPTS["rescue"].sha in data)
    renewal = both.index(SCRIPTS["extend"].sha)
    assert 16 - 3 == both[renewal:].count(SCRIPTS["rescue"].sha), "just before its rescue"


async def test_a_partition_whose_renewal_fails_does_not_delay_the_others(
    make_harness: MakeHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed: list[int] = []

    async def extend(number: int, _: Sequence[tuple[str, str]]) -> list[str]:
        if number == PARTITIONS.start:
            raise RedisAway("the master of the first partition is away")
        renewed.append(number)
        return []

    async with (
        make_harness(**MANY_PARTITIONS) as harness,
        Rescue(harness.context) as rescue,
    ):
        monkeypatch.setattr(harness.context.queue.leases, "extend", extend)
        async with Leases(harness.context, rescue, [], RedisHealth(), lambda: True) as leases:
            leases.renew_now()
            await wait_until(lambda: renewed)
    assert {*PARTITIONS[1:]} <= {*renewed}


def recorded_writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Returns a list to which each write to Redis is added."""
    written: list[bytes] = []
    flush = Wire._flush

    def recorded(self: Wire) -> None:
        written.append(b"".join(self._outgoing))
        flush(self)

    monkeypatch.setattr(Wire, "_flush", recorded)
    return written


def calls_of(script: str, written: list[bytes]) -> list[int]:
    """Returns the number of calls of a script in each write that has one."""
    counts = [data.count(SCRIPTS[script].sha) for data in written]
    return [count for count in counts if count]


def refused_once(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes Redis refuse the first renewal; returns the times of the later renewals."""
    extend = harness.context.queue.leases.extend
    refusals = [RedisNotReady("MISCONF", "MISCONF Errors writing to the AOF file")]
    renewed: list[float] = []

    async def refuse(number: int, pairs: Sequence[tuple[str, str]]) -> list[str]:
        if refusals:
            raise refusals.pop()
        renewed.append(time.monotonic())
        return await extend(number, list(pairs))

    monkeypatch.setattr(harness.context.queue.leases, "extend", refuse)
    return renewed


def recorder(rescued: list[float]) -> Callable[[int, RescuePace], Awaitable[None]]:
    async def rescue(number: int, pace: RescuePace) -> None:
        del number, pace
        rescued.append(time.monotonic())

    return rescue
