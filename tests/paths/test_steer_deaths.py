"""Cuts the connection of a client that steers at any byte, and kills workers meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jobs.names import partition_of
from tests.fake_model import FakeModel
from tests.paths.sockets import TERMINAL, socket, until
from tests.paths.steers import many_steers
from tests.paths.topologies.several import cluster
from tests.system import System

pytestmark = pytest.mark.timeout(120)

PARTITIONS = 9
TOOL = {"type": "function", "name": "f", "parameters": {}, "strict": False}


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.mark.heavy
@pytest.mark.parametrize("partitions", [1, PARTITIONS])
async def test_cut_connections_and_dead_workers_lose_and_repeat_no_steer(
    system: System, model: FakeModel, partitions: int
) -> None:
    system.environ["HOLDLINE_PARTITIONS"] = str(partitions)
    outcomes = await many_steers(system, model, [9, 200, 1000, 1000])
    assert "committed" in outcomes


@pytest.mark.heavy
@pytest.mark.timeout(1800)
async def test_a_hundred_steers_are_cut_at_every_byte(system: System, model: FakeModel) -> None:
    outcomes = await many_steers(system, model, [3 * number for number in range(100)])
    # A cut steer that was never stored may find its response ended after the worker's restart.
    assert {"committed", "given back"} == set(outcomes)
    assert 50 <= outcomes.count("committed")


@pytest.mark.heavy
async def test_steers_survive_dead_workers_in_a_cluster(tmp_path: Path, model: FakeModel) -> None:
    async with cluster() as nodes, System(nodes.url, tmp_path) as system:
        system.environ["HOLDLINE_PARTITIONS"] = str(PARTITIONS)
        outcomes = await many_steers(system, model, [0, 200, 1000, 1000])
    assert "committed" in outcomes


@pytest.mark.heavy
async def test_pending_steers_are_committed_in_the_partition_of_their_response(
    tmp_path: Path, model: FakeModel
) -> None:
    used = set()
    async with cluster() as nodes, System(nodes.url, tmp_path) as system:
        system.environ["HOLDLINE_PARTITIONS"] = str(PARTITIONS)
        servers = [await system.server(), await system.server()]
        await system.worker(model.url)
        async with socket(servers[0]) as ws, socket(servers[1]) as other:
            for number in range(5):
                steered = f"steer={number}"
                create: dict[str, Any] = {"type": "response.create", "model": "m", "tools": [TOOL]}
                args = f"mode=call args={'9' * 100} pace=0.02 case={number}"
                await ws.send_json({**create, "input": args})
                begun = await until(ws, "response.function_call_arguments.delta")
                id_ = next(e for e in begun if e["type"] == "response.created")["response"]["id"]
                steer = {"type": "response.steer", "previous_response_id": id_, "input": steered}
                await other.send_json(steer)
                await until(other, "response.steer.accepted")
                [*_, pending] = await until(other, "response.steer.pending")
                [stub] = pending["required_input"]
                ended = await until(ws, *TERMINAL)
                assert 1 == ended[-1]["response"]["holdline"]["pending_steers"]
                result = {**create, "input": [{**stub, "output": "done"}]}
                await other.send_json({**result, "previous_response_id": id_})
                [*_, last] = await until(other, *TERMINAL)
                assert "response.completed" == last["type"]
                assert partition_of(id_) == partition_of(last["response"]["id"])
                used.add(partition_of(id_))
                [call] = [call for call in model.calls if call.prompt == steered]
                roles = [message["role"] for message in call.body["messages"]]
                assert ["tool", "user"] == roles[-2:]
    assert 1 < len(used)
