"""Tests steers that a failover to a replica keeps, loses, or replaces by another steer."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.error_codes import own_code
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.deployment import Deployment, deploy, wait_for_baseline
from tests.paths.redis_faults.redirecting_proxy import RedirectingProxy
from tests.paths.sockets import TERMINAL, socket, until
from tests.system import wait_until

pytestmark = pytest.mark.timeout(120)

TOOL = {"type": "function", "name": "f", "parameters": {}, "strict": False}
# A steer does not interrupt a call of a function, so the model's call goes on until it has ended.
CALLING = f"mode=call pace=0.02 args={'9' * 3000}"


@dataclass
class Failover:
    """A master, a replica that becomes the master, and the processes that use them."""

    master: stores.Store
    replica: stores.Store
    replication: RedirectingProxy
    proxy: RedirectingProxy
    deployment: Deployment

    async def happen(self) -> None:
        """Kills the master, and lets the replica take over."""
        await self.master.kill()
        await self.replica.call("REPLICAOF", "NO", "ONE")
        self.proxy.redirect(self.replica.url)


@pytest.fixture
async def failover(tmp_path: Path) -> AsyncIterator[Failover]:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        RedirectingProxy(master.url) as replication,
        RedirectingProxy(master.url) as proxy,
        deploy(replica, tmp_path, redis_url=proxy.url) as deployment,
    ):
        await replica.replicate(replication.url)
        yield Failover(master, replica, replication, proxy, deployment)


@contextlib.contextmanager
def stopped(failover: Failover) -> Any:
    """Stops the worker while the block runs, so that it does not read a steer."""
    [worker] = failover.deployment.workers
    worker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.signal(signal.SIGCONT)


async def running(ws: aiohttp.ClientWebSocketResponse, prompt: str, until_: str) -> str:
    """Starts a response with a tool, and returns its id after the first event of a type."""
    create = {"type": "response.create", "model": "m", "tools": [TOOL], "input": prompt}
    await ws.send_json(create)
    events = await until(ws, until_)
    created = next(event for event in events if event["type"] == "response.created")
    return str(created["response"]["id"])


async def accepted(ws: aiohttp.ClientWebSocketResponse, id_: str, text: str) -> None:
    """Steers a response with the text, which is also the steer's idempotency key."""
    await ws.send_json(steer(id_, text))
    await until(ws, "response.steer.accepted")


def steer(id_: str, text: str) -> dict[str, Any]:
    own = {"holdline": {"idempotency_key": text}}
    return {"type": "response.steer", "previous_response_id": id_, "input": text, **own}


def prompts(failover: Failover) -> list[str]:
    return [call.prompt for call in failover.deployment.model.calls]


async def test_a_steer_that_the_replica_has_is_committed_once(failover: Failover) -> None:
    async with socket(failover.deployment.server) as ws:
        id_ = await running(ws, "mode=slow tokens=60 pace=0.05", "response.output_text.delta")
        with stopped(failover):
            await accepted(ws, id_, "kept")
            steers = stores.NAMES.steers(id_)
            await wait_until(lambda: failover.replica.call("EXISTS", steers))
            await failover.happen()
        [*_, ended] = await until(ws, *TERMINAL)
        assert "steered" == ended["response"]["incomplete_details"]["reason"]
        [*_, last] = await until(ws, *TERMINAL)
        assert ended["response"]["holdline"]["successor_id"] == last["response"]["id"]
        assert "response.completed" == last["type"]
    assert 1 == prompts(failover).count("kept")
    await wait_for_baseline(failover.deployment)


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_steer_that_the_replica_lacks_is_reported_as_lost(
    failover: Failover, replaced: bool
) -> None:
    server = failover.deployment.server
    async with socket(server) as ws, socket(server) as other, socket(server) as third:
        id_ = await running(ws, "mode=slow tokens=60 pace=0.05", "response.output_text.delta")
        with stopped(failover):
            failover.replication.stop_forwarding()
            await accepted(ws, id_, "lost")
            await accepted(other, id_, "lost too")
            await failover.happen()
            if replaced:
                await third.send_json(steer(id_, "after"))
                await until(third, "response.steer.accepted")
        for one in (ws, other):
            [*_, problem] = await until(one, "error")
            assert "steer_lost" == own_code(problem["error"])
            assert id_ == problem["response_id"]
        # The clients can tell the steers of another client from their own.
        await ws.send_json(steer(id_, "lost"))
        [*_, again] = await until(ws, "response.steer.failed")
        assert ("lost", id_) == (again["steer"]["input"], again["steer"]["previous_response_id"])
    await wait_for_baseline(failover.deployment)
    assert ["after"] * replaced == [p for p in prompts(failover) if "mode" not in p][1:]


@pytest.mark.heavy
async def test_a_steer_of_a_response_that_was_rolled_back_is_given_back(failover: Failover) -> None:
    deployment = failover.deployment
    delta = "response.function_call_arguments.delta"
    async with socket(deployment.server) as ws, socket(deployment.server) as other:
        id_ = await running(ws, CALLING, delta)
        for number, one in enumerate((ws, other)):
            await accepted(one, id_, f"steer {number}")
        await wait_until(lambda: failover.replica.call("HEXISTS", stores.NAMES.steers(id_), 1))
        failover.replication.stop_forwarding()
        kept = await failover.replica.call("LLEN", stores.NAMES.log(id_))
        while (await until(ws, delta))[-1]["sequence_number"] < kept:
            pass  # the replica has the event
        await deployment.workers.pop().kill()
        await failover.happen()
        [*_, problem] = await until(ws, "error")
        assert "response_rolled_back" == own_code(problem["error"])
        await ws.send_json({"type": "response.cancel", "response_id": id_})
        deployment.workers.append(await deployment.system.worker(deployment.model.url))
        for number, one in enumerate((ws, other)):
            [*_, back] = await until(one, "response.steer.failed")
            assert f"steer {number}" == back["steer"]["input"]
