"""Tests the widget in a real WebKit: on several devices of one user, with feedback, attachments and
tools, with hostile answers, and after reloads and a lost connection.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

import holdline_client
from tests.browser import HOSTILE, IN_PAGE, SHOW_WIDGET
from tests.fake_model import FakeModel
from tests.paths.conftest import HOSTED, MODELS, Shared
from tests.paths.conversation_devices import require_tokens
from tests.system import Server, System
from tests.webkit import WebKit, needs_webkit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180), needs_webkit]

DRAW, FILES, FOUND = ((IN_PAGE / f"{name}.js").read_text() for name in ("draw", "files", "found"))
OPEN = """() => document.querySelector("holdline-chat").shadowRoot
  ?.querySelector("#state")?.dataset.state === "open" """
TURNS = """() => document.querySelector("holdline-chat").turns
  .map(({ prompt, text, status }) => [prompt, text, status])"""
# Returns the texts of all displayed elements of the widget that a selector finds.
TEXTS = """selector => [...document.querySelector("holdline-chat").shadowRoot
  .querySelectorAll(selector)]
  .filter(one => one.getClientRects().length > 0).map(one => one.textContent.trim())"""
TOOL = {"type": "mcp", "server_label": "m", "server_url": "https://m.example"}


async def shows(device: WebKit, selector: str, *texts: str) -> None:
    """Waits until the widget displays exactly these texts in the elements of a selector."""
    await device.until(
        f"(selector, texts) => JSON.stringify(({TEXTS})(selector)) === JSON.stringify(texts)",
        selector,
        texts,
    )


async def ask(device: WebKit, prompt: str) -> None:
    await device.fill("#prompt", prompt)
    await device.click("#send")


async def until_turns(device: WebKit, count: int) -> list[list[str]]:
    """Waits until a device shows this number of finished turns."""
    found: list[list[str]] = await device.until(
        f"""count => {{
          const turns = ({TURNS})();
          const isDone = turns.every(([, , status]) => status === "completed");
          return turns.length === count && isDone && turns;
        }}""",
        count,
    )
    return found


@dataclass
class Site:
    """A server that requires tokens, and browsers on which its widget is open."""

    server: Server
    model: FakeModel
    signer: str
    stack: AsyncExitStack
    devices: list[WebKit]

    async def device(self, subject: str, **attributes: str) -> WebKit:
        """Opens the widget of a user in a browser of its own."""
        device = await self.stack.enter_async_context(WebKit())
        self.devices.append(device)
        await self.show(device, subject, **attributes)
        return device

    async def open(self, *subjects: str) -> list[WebKit]:
        """Opens several devices at once. If one of them fails, none of the others stays open."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.device(subject)) for subject in subjects]
        return [task.result() for task in tasks]

    async def show(self, device: WebKit, subject: str, **attributes: str) -> None:
        token = holdline_client.mint_token(self.signer, tenant="acme", subject=subject, seconds=900)
        await device.goto(f"{self.server.url}/docs/empty")
        await device.run(SHOW_WIDGET, token, {"conversations": "", **attributes})
        await device.until(OPEN)


@pytest.fixture
async def site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    """Yields a site. Errors on the pages of its browsers fail the test."""
    signer = await require_tokens(system, tmp_path)
    async with FakeModel() as model, AsyncExitStack() as stack:
        models = tmp_path / "models.toml"
        models.write_text(MODELS.format(url=model.url))
        system.environ |= {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        site = Site(server, model, signer, stack, [])
        yield site
        for device in site.devices:
            assert [] == await device.run("() => window.wrong")


@pytest.mark.heavy
async def test_conversations_are_live_and_can_be_renamed_and_deleted(site: Site) -> None:
    phone, desk, other = await site.open("anna", "anna", "ben")
    await phone.resize(400, 800)
    await ask(phone, "tokens=5 sky")
    first = await until_turns(phone, 1)
    assert first == await until_turns(desk, 1)
    await ask(desk, "tokens=5 moon")
    assert await until_turns(desk, 2) == await until_turns(phone, 2)
    await phone.click("#new")
    await ask(phone, "tokens=5 sea")
    await until_turns(phone, 1)
    await desk.click(".list-button")
    titles = ".conversation-title"
    await shows(desk, titles, "tokens=5 sea", "tokens=5 sky")
    await desk.fill(".search", "SKY")
    await shows(desk, titles, "tokens=5 sky")
    await desk.click("[aria-label='Rename tokens=5 sky']")
    await desk.fill(".new-title", "The sky\n")
    await shows(desk, titles, "The sky")
    await desk.fill(".search", " ")
    await desk.click("[aria-label='Delete tokens=5 sea']")
    await desk.click(".remove")
    await shows(desk, titles, "The sky")
    await phone.until(f"() => ({TURNS})().length === 0")
    assert [] == await other.run(TURNS)


@pytest.mark.heavy
async def test_regenerated_answers_and_edited_prompts_are_branches(site: Site) -> None:
    phone, desk = await site.open("anna", "anna")
    await ask(phone, "tokens=5 one")
    await until_turns(phone, 1)
    await phone.click(".regenerate")
    for device in (phone, desk):
        await shows(device, ".branch-place", "2/2")
        await until_turns(device, 1)
    await phone.click(".earlier")
    await shows(phone, ".branch-place", "1/2")
    await shows(desk, ".branch-place", "2/2")
    await phone.click(".action.edit")
    await ask(phone, "tokens=5 two")
    await phone.until(f"() => ({TURNS})()[0][0] === 'tokens=5 two'")
    await until_turns(phone, 1)
    await shows(desk, ".branch-place", "3/3")
    await desk.click(".earlier")
    await shows(desk, ".branch-place", "2/3")
    assert "tokens=5 one" == (await until_turns(desk, 1))[0][0]


@pytest.mark.heavy
async def test_a_user_rates_answers_attaches_images_allows_a_tool_and_logs_out(site: Site) -> None:
    device = await site.device("anna", feedback="", attachments="", model=HOSTED)
    await device.until(f"selector => ({TEXTS})(selector).length", ".attach")
    images = [["bread.png", "image/png", 300, 200]]
    await device.run(f"(how, images) => ({FILES})(how, images)", "drop", images)
    await device.until(f"selector => ({TEXTS})(selector).length", ".tray .file")
    await ask(device, "tokens=5 What is this?")
    await until_turns(device, 1)
    assert "data:image/" in json.dumps(site.model.calls[0].body)
    await device.click(".thumb.down")
    await device.fill(".feedback-comment", "Too short.")
    await device.click(".feedback .again")
    await shows(device, ".feedback-thanks", "Thank you.")
    await device.run(
        "tool => void (document.querySelector('holdline-chat').request = { tools: [tool] })", TOOL
    )
    await ask(device, 'mode=call name=m args={"a":1}')
    await device.click(".approve")
    await until_turns(device, 3)
    await device.until(f"selector => ({TEXTS})(selector)[0] === 'allowed'", ".tool-state")

    await site.show(device, "anna", feedback="")
    await until_turns(device, 3)
    await device.until(f"selector => ({TEXTS})(selector).length", ".thumb.down[aria-pressed=true]")
    await device.run("() => document.querySelector('holdline-chat').logout()")
    assert 0 == await device.run("() => localStorage.length")
    assert [] == await device.run(TURNS)


async def test_an_answer_survives_reloads_and_a_lost_connection_in_webkit(shared: Shared) -> None:
    rng = random.Random(11)
    async with WebKit() as device:
        await device.goto(shared.server.url)
        prompt = shared.prompt("mode=slow tokens=200 pace=0.03")
        await device.until(OPEN)
        await ask(device, prompt)
        for _ in range(3):
            await asyncio.sleep(rng.uniform(0.0, 0.8))  # reload at a random point of the answer
            await device.reload()
        await device.run("() => document.querySelector('#plug').click()")
        [turn] = await until_turns(device, 1)
        assert [prompt, shared.answer_to(prompt)] == [part.strip() for part in turn[:2]]
        assert [] == await device.run("() => window.wrong")


@pytest.mark.heavy
async def test_hostile_answers_run_and_load_nothing_in_webkit(shared: Shared) -> None:
    async with WebKit() as device:
        await device.goto(shared.server.url)
        for chunk in (0, 7):
            draw = f"async (...given) => void await ({DRAW})(given)"
            await device.run(draw, HOSTILE, chunk)
            await asyncio.sleep(0.3)  # wait until an injected script would have run
            assert [] == await device.run(FOUND)
        assert await device.run("() => window.pwned === undefined")
        assert [] == await device.run("() => window.wrong")
