"""Tests that each alert fires for its fault in a real system, and that each panel has data."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import pytest_asyncio

from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.tenants import Tenants
from tests.fake_model import FakeModel
from tests.prometheus.live import CONCURRENCY, Live, running
from tests.prometheus.rules import queries
from tests.system import System, in_module_loop, wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(500), in_module_loop]

STOPPED_SECONDS, CONTINUED_SECONDS = 0.7, 0.3
REDIS_STOPPED_SECONDS = 0.8
# Longer than three quarters of a lease, and shorter than a lease.
LATE_SECONDS = 0.85


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(
    module_system: System, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Live]:
    folder = tmp_path_factory.mktemp("prometheus")
    async with (
        FakeModel() as model,
        Pipe(Redis(module_system.redis_url)) as pipe,
        running(module_system, folder, model, pipe) as live,
    ):
        yield live


@pytest_asyncio.fixture(loop_scope="module")
async def live(shared: Live) -> AsyncIterator[Live]:
    """The shared system, in which no alert fires before and after the test."""
    await shared.silent()
    yield shared
    shared.model.script = {}
    shared.model.cut(lambda wires: wires)  # ends the hanging calls
    await shared.silent()


@contextlib.asynccontextmanager
async def suspended(send: Callable[[signal.Signals], None], seconds: float) -> AsyncIterator[None]:
    """Suspends the process to which `send` sends a signal again and again for some seconds."""

    async def suspend() -> None:
        while True:
            send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            send(signal.SIGCONT)
            await asyncio.sleep(CONTINUED_SECONDS)

    suspending = asyncio.create_task(suspend())
    try:
        yield
    finally:
        suspending.cancel()
        await asyncio.gather(suspending, return_exceptions=True)
        send(signal.SIGCONT)


async def test_each_query_of_the_dashboards_has_data(live: Live) -> None:
    await live.submit(model="unknown")  # is refused
    for _, title, expression in queries():

        async def has_data(expression: str = expression) -> bool:
            return any(not math.isnan(value) for value in await live.query(expression))

        try:
            await wait_until(has_data, 60)
        except AssertionError:
            pytest.fail(f"no data: {title}: {expression}")


async def test_a_dead_worker(live: Live) -> None:
    await live.worker.kill()
    try:
        await live.expect("HoldlineNoWorker", "HoldlineTargetDown", allowed=("HoldlineRestarts",))
    finally:
        await live.start_worker()


async def test_a_queue_that_does_not_move(live: Live) -> None:
    for number in range(CONCURRENCY):
        await live.submit(f"mode=hang at=0 times=1 number={number}")
    await live.expect("HoldlineQueueOld")


async def test_a_failing_model(live: Live) -> None:
    live.model.script = {"mode": "500"}
    await live.expect("HoldlineModelFailing", allowed=("HoldlineRestarts", "HoldlineQueueOld"))


async def test_answers_that_restart(live: Live) -> None:
    live.model.script = {"mode": "rst"}
    await live.expect("HoldlineRestarts", allowed=("HoldlineModelFailing", "HoldlineQueueOld"))


async def test_a_dead_job(live: Live) -> None:
    dead = Partition(0).dead
    await live.pipe.call("LPUSH", dead, "x")
    await live.pipe.call("PEXPIRE", dead, 600_000)
    try:
        await live.expect("HoldlineDeadJobs")
    finally:
        await live.pipe.call("DEL", dead)


async def test_a_redis_that_hangs(live: Live) -> None:
    await live.pipe.call("CLIENT", "PAUSE", 25_000, "ALL")
    await live.expect(
        "HoldlineRedisAway",
        "HoldlineNotReady",
        "HoldlineServiceUnknown",
        allowed=("HoldlineNoWorker", "HoldlineRestarts"),
    )


async def test_a_redis_that_is_nearly_full(live: Live) -> None:
    info = (await live.pipe.call("INFO", "memory")).decode()
    used = int(info.partition("used_memory:")[2].split()[0])
    await live.pipe.call("CONFIG", "SET", "maxmemory", round(used / 0.93))
    try:
        await live.expect("HoldlineRedisFull", allowed=("HoldlineNotReady",))
    finally:
        await live.pipe.call("CONFIG", "SET", "maxmemory", 0)


async def test_a_redis_that_is_slow(live: Live) -> None:
    # A script that keeps Redis busy would measure processor time, and on shared cores it would run
    # for so long that Redis replies at once, with an error.
    info = (await live.pipe.call("INFO", "server")).decode()
    pid = int(info.partition("process_id:")[2].split()[0])
    async with suspended(partial(os.kill, pid), REDIS_STOPPED_SECONDS):
        await live.expect(
            "HoldlineRedisSlow",
            "HoldlineNotificationsLate",
            allowed=(
                "HoldlineRestarts",
                "HoldlineNotReady",
                "HoldlineNoWorker",
                "HoldlineServiceUnknown",
            ),
        )


async def test_a_process_without_cpu_time(live: Live) -> None:
    async with suspended(live.server.signal, STOPPED_SECONDS):
        await live.expect("HoldlineLoopLag", allowed=("HoldlineTargetDown", "HoldlineNotReady"))


async def test_a_worker_that_renews_its_leases_late(live: Live) -> None:
    async with suspended(live.worker.signal, LATE_SECONDS):
        await live.expect(
            "HoldlineLeasesLost",
            allowed=("HoldlineTargetDown", "HoldlineNotReady", "HoldlineRestarts"),
        )


async def test_a_long_shutdown(live: Live) -> None:
    live.server.signal(signal.SIGTERM)
    try:
        await live.expect("HoldlineDrainingTooLong", allowed=("HoldlineTargetDown",))
    finally:
        await live.server.kill()
        await live.start_server()


async def test_a_tenant_near_its_budget(live: Live) -> None:
    [used] = await live.query('max(holdline_tenant_tokens_today{tenant="acme"})')
    tenants = Tenants(live.pipe, range(1))
    await tenants.set("acme", {"tokens_per_day": str(round(used * 1.03) + 10)})
    try:
        await live.expect("HoldlineTenantBudget")
    finally:
        await tenants.set("acme", {"tokens_per_day": "0"})


async def test_keys_that_end(live: Live) -> None:
    key = {"access_token": "sk-test", "expires_at": round(time.time()) + 100}
    live.key_file.write_text(json.dumps(key))
    printed = await live.system.run("keys", "create", "acme", "--expires", "1d")
    await live.submit(model="soon")
    await live.submit(model="nokey")
    try:
        await live.expect(
            "HoldlineApiKeyExpires",
            "HoldlineModelKeyExpires",
            "HoldlineModelKeyFailing",
            allowed=("HoldlineModelFailing", "HoldlineRestarts"),
        )
    finally:
        key_id = printed.partition("hl_")[2][:12]
        await live.system.run("keys", "revoke", key_id)
        await live.worker.kill()
        await live.start_worker()


async def test_webhooks_that_are_abandoned(live: Live) -> None:
    live.webhooks.status = 410
    try:
        await live.expect("HoldlineWebhooksAbandoned")
    finally:
        live.webhooks.status = 204
