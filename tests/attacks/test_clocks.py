"""Tests that a step of a machine's clock changes no shown age, and ends no answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from tests.fake_model import FakeModel
from tests.system import Server, System, run_module, wait_until

LIBRARY: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
STEP_SECONDS: Final = 7_200
# The processes run on shared cores, so that ages may be some seconds.
MAX_AGE_SECONDS: Final = 60

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not LIBRARY.exists(), reason="faketime is not installed"),
]


async def ask(server: Server, path: str, **body: Any) -> Any:
    async with (
        aiohttp.ClientSession(server.url) as http,
        http.request("POST" if body else "GET", path, json=body or None) as answer,
    ):
        assert 200 == answer.status, await answer.text()
        return await answer.json()


def ages(state: Any) -> list[float]:
    """Returns how long before the state each of its times was, in seconds."""
    now = state["read_at"]
    workers, servers, answers = state["workers"], state["servers"], state["answers"]
    times = [one[name] for one in (*workers, *servers) for name in ("started_at", "seen_at")]
    times += [one["submitted_at"] for one in answers]
    times += [one["oldest_at"] for one in state["models"] if one["oldest_at"] is not None]
    return [now - at for at in times]


async def test_no_age_follows_a_step_of_the_clock_of_a_server_or_a_worker(
    system: System, tmp_path: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0s")
    faked = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    async with FakeModel() as model:
        server = await system.server(**faked)
        await system.worker(model.url, HOLDLINE_CONCURRENCY="1", **faked)
        slow = await ask(
            server, "/v1/responses", input="mode=slow tokens=900 pace=0.1", background=True
        )
        await wait_until(lambda: model.calls and model.calls[-1].sent)
        for step in (STEP_SECONDS, -STEP_SECONDS):
            clock.write_text(f"{step:+}s")
            waiting = await ask(server, "/v1/responses", input="Why?", background=True)
            assert abs(waiting["created_at"] - time.time() - step) < MAX_AGE_SECONDS

            async def shown() -> Any:
                state = await ask(server, "/v1/console")
                return state if state["counts"]["waiting"] and state["servers"] else None

            state = await wait_until(shown)
            assert 1 == state["counts"]["running"]
            assert 1 == state["worker_counts"]["ready"]
            assert [] == state["alerts"]
            assert all(-1 <= age < 2 * MAX_AGE_SECONDS for age in ages(state)), state
            name = 'holdline_queue_oldest_seconds{model="other",tier="default"}'
            oldest = await server.metric(name)
            assert 0 <= oldest < 2 * MAX_AGE_SECONDS
            health = await ask(server, "/healthz/service")
            assert "ready" == health["status"]
            timeline = await ask(server, f"/v1/console/responses/{slow['id']}")
            assert all(0 <= timeline["now"] - one["at"] < 200 for one in timeline["steps"])
            # A command on a machine with another clock shows the same ages.
            shown_by_command = run_module("command", "status", REDIS_URL=system.redis_url, **faked)
            assert 0 == shown_by_command.returncode, shown_by_command.stderr
            assert "2h" not in shown_by_command.stdout
        # The answer that was written during the steps has neither restarted nor lost its lease.
        await ask(server, f"/v1/responses/{slow['id']}/cancel", cancel=True)
        timeline = await ask(server, f"/v1/console/responses/{slow['id']}")
        assert 1 == timeline["attempts"]
        assert ["claimed"] == [
            one["kind"] for one in timeline["steps"] if one["kind"] in ("claimed", "worker_lost")
        ]
