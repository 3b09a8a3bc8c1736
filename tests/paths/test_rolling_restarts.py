"""Tests that pages and clients see no error while servers restart one by one behind each proxy."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from pathlib import Path

import pytest
from openai import AsyncOpenAI
from playwright.async_api import Page, expect

from tests.browser import NewPage, in_chromium
from tests.fake_model import FakeModel
from tests.proxies.fronted import PROXIES, run_proxy
from tests.system import Server, System

pytestmark = in_chromium
DELAY = {"HOLDLINE_SHUTDOWN_DELAY_SECONDS": "3"}  # the value given in the files in `deploy/`
FETCH_IN_A_LOOP = """([name, pace]) => {
  window.over = false;
  window.errors = [];
  window.fetched = {};
  document.querySelector("holdline-chat").addEventListener("error", ({ detail }) => {
    errors.push(`widget: ${detail.code} ${detail.message}`);
  });
  window.fetching = (async () => {
    for (let number = 0; !over; number += 1) {
      const input = `fetch=${name}-${number} tokens=3 mode=slow pace=${pace}`;
      const response = await fetch("v1/responses", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ input, model: "m" }),
      });
      const body = await response.json();
      if (response.status !== 200) errors.push(`${response.status} ${JSON.stringify(body)}`);
      else fetched[input] = body.output[0].content[0].text;
    }
  })().catch(error => errors.push(String(error)));
}"""


class Clients:
    """The clients behind one proxy. Each sends one request after another until `over` is set."""

    def __init__(self, name: str, url: str, page: Page, pace: float) -> None:
        self._name = name
        self._url = url
        self._page = page
        self._pace = pace
        self.over = False
        self.answers: dict[str, str] = {}

    async def run(self) -> None:
        await self._page.evaluate(FETCH_IN_A_LOOP, [self._name, self._pace])
        async with AsyncOpenAI(base_url=f"{self._url}/v1", api_key="any") as sdk:
            await asyncio.gather(self._ask_in_the_page(), self._ask(sdk))
        await self._page.evaluate("over = true, fetching")
        assert [] == await self._page.evaluate("errors")
        self.answers |= await self._page.evaluate("fetched")

    async def _ask_in_the_page(self) -> None:
        for number in itertools.count():
            prompt = f"page={self._name}-{number} tokens=10 mode=slow pace={self._pace}"
            await self._page.fill("#prompt", prompt)
            await self._page.click("#send")
            answer = self._page.locator("article.answer").nth(number)
            await expect(answer).to_have_attribute("data-status", "completed", timeout=40_000)
            self.answers[prompt] = await answer.locator(".text").text_content() or ""
            if self.over:
                return

    async def _ask(self, sdk: AsyncOpenAI) -> None:
        number = itertools.count()
        while not self.over:
            prompt = f"sdk={self._name}-{next(number)} tokens=3 mode=slow pace={self._pace}"
            response = await sdk.responses.create(input=prompt, model="m")
            self.answers[prompt] = response.output_text


async def restart(system: System, server: Server) -> Server:
    """Restarts a server on its port and waits until the proxies use it again."""
    server.signal(signal.SIGTERM)
    assert 0 == await server.wait(30)
    started = await system.server(HOLDLINE_PORT=server.url.rpartition(":")[2], **DELAY)
    await asyncio.sleep(1.5)  # Caddy checks the server's health every second
    return started


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("rounds", "pace"), [(1, 0.3), pytest.param(5, 0.05, marks=pytest.mark.heavy)]
)
async def test_a_rolling_restart_is_not_noticed_behind_either_proxy(
    system: System, open_page: NewPage, tmp_path: Path, rounds: int, pace: float
) -> None:
    async with FakeModel() as model, contextlib.AsyncExitStack() as stack:
        *servers, _ = await asyncio.gather(
            system.server(**DELAY), system.server(**DELAY), system.worker(model.url)
        )
        ports = [int(server.url.rpartition(":")[2]) for server in servers]
        clients = []
        for proxy in PROXIES:
            folder = tmp_path / proxy
            folder.mkdir()
            url = await stack.enter_async_context(run_proxy(proxy, ports[0], folder, ports[1]))
            clients.append(Clients(proxy, url, await open_page(f"{url}/"), pace))
        async with asyncio.TaskGroup() as tasks:
            for each in clients:
                tasks.create_task(each.run())
            for _ in range(rounds):
                servers = [await restart(system, server) for server in servers]
            for each in clients:
                each.over = True
        said = {call.prompt: call.sent.strip() for call in model.calls}
        assert len(said) == len(model.calls), "a prompt called the model twice"
        answers = {
            prompt: text.strip() for each in clients for prompt, text in each.answers.items()
        }
        assert said == answers
        for kind in ("page", "fetch", "sdk"):
            for proxy in PROXIES:
                assert any(prompt.startswith(f"{kind}={proxy}") for prompt in answers)
