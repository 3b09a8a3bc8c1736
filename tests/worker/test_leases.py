"""Tests that a refused lease renewal neither loses a job nor takes one from another worker."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from jobs.errors import RedisNotReady
from tests.system import wait_until
from tests.worker.harness import Harness
from worker import leases as leases_module
from worker.leases import Leases, RedisHealth
from worker.rescue import Rescue

PUT_OFF_SECONDS = 0.5


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


def recorder(rescued: list[float]) -> Callable[[int], Awaitable[None]]:
    async def rescue(number: int) -> None:
        del number
        rescued.append(time.monotonic())

    return rescue
