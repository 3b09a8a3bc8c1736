"""Tests the Node SDK while the server gets SIGTERM or SIGKILL, or the worker gets SIGTERM."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.fake_model import FakeModel
from tests.programs.running import run_at
from tests.system import System, wait_until

# In `make test`, test_deploys.py tests the same with the Python SDK.
pytestmark = [pytest.mark.timeout(60), pytest.mark.heavy]
SLOW = "mode=slow tokens=40 pace=0.05"


async def test_after_a_sigterm_each_prompt_has_called_the_model_once(system: System) -> None:
    prompts = [f"way={way} {SLOW}" for way in ("plain", "streamed", "background")]
    async with FakeModel() as model:
        old, new, worker = await asyncio.gather(
            system.server(), system.server(), system.worker(model.url)
        )
        running = asyncio.create_task(run_at(old.url, "node_deploy.mjs", f"{new.url}/v1", *prompts))
        await wait_until(lambda: len(model.calls) == 3 and all(c.sent for c in model.calls))
        old.signal(signal.SIGTERM)
        worker.signal(signal.SIGTERM)
        saw = await running
        assert [0, 0] == [await old.wait(), await worker.wait()]
        assert ("completed", "completed") == (saw["plain"], saw["background"])
        stream = saw["stream"]
        assert {"code": "server_restarting", "id": stream["id"]} == stream["raised"]
        assert list(range(len(stream["numbers"]))) == stream["numbers"]
        assert "response.completed" == stream["last"]
        assert sorted(prompts) == sorted(call.prompt for call in model.calls)


async def test_a_retried_request_attaches_to_its_response_after_a_server_is_killed(
    system: System,
) -> None:
    async with FakeModel() as model:
        old, new, _ = await asyncio.gather(
            system.server(), system.server(), system.worker(model.url)
        )
        others = [f"way={way} tokens=1" for way in ("streamed", "background")]
        running = asyncio.create_task(
            run_at(old.url, "node_deploy.mjs", f"{new.url}/v1", f"way=plain {SLOW}", *others)
        )
        await wait_until(lambda: len(model.calls) == 3 and all(c.sent for c in model.calls))
        await asyncio.sleep(0.5)  # wait until the other requests have ended
        await old.kill()
        await system.server(HOLDLINE_PORT=old.url.rpartition(":")[2])
        assert "completed" == (await running)["plain"]
        assert 3 == len(model.calls)
