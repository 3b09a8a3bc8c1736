"""Tests the console in a real Firefox, under the page's own content security policy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.firefox import Firefox, needs_firefox
from tests.system import System, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180), needs_firefox]

READ = """() => ({
  live: document.querySelector("#live").dataset.state,
  waiting: document.querySelector(".tile-value")?.textContent,
  alerts: [...document.querySelectorAll(".alert-text")].map(alert => alert.textContent),
  status: document.querySelector(".timeline-status")?.textContent,
  steps: [...document.querySelectorAll(".step-text")].map(step => step.textContent),
})"""


@pytest.fixture
async def firefox() -> AsyncIterator[Firefox]:
    """Yields a Firefox. Errors on its last page fail the test."""
    async with Firefox() as firefox:
        yield firefox
        assert [] == await firefox.run("() => window.wrong")
        assert [] == [line for line in firefox.console if line.startswith("error:")]


@pytest.mark.heavy
async def test_firefox_shows_the_live_state_and_a_timeline(
    system: System, firefox: Firefox
) -> None:
    server = await system.server()
    await firefox.goto(f"{server.url}/console")

    async def seen(**wanted: Any) -> dict[str, Any] | None:
        found: dict[str, Any] = await firefox.run(READ)
        return found if wanted.items() <= found.items() else None

    state = await wait_until(lambda: seen(live="live", waiting="0"))
    assert state["alerts"] == ["Problem No worker is alive, so no prompt is answered. Start one."]
    async with aiohttp.ClientSession(server.url) as http:
        body = {"input": "Why?", "background": True}
        async with http.post("/v1/responses", json=body) as answer:
            id_ = (await answer.json())["id"]
    await wait_until(lambda: seen(waiting="1"))
    await firefox.run("id => { location.hash = id; }", id_)
    state = await wait_until(lambda: seen(status="queued"))
    assert "Submitted" in state["steps"]
