"""Tests the widget on several devices of one user, which show one conversation of the server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

import holdline_client
from tests.browser import (
    AXE,
    AXE_RUN,
    SHOW_WIDGET,
    NewPage,
    ask,
    element,
    in_chromium,
    wait_for_end,
)
from tests.fake_model import FakeModel
from tests.paths.conftest import HOSTED, MODELS
from tests.paths.conversation_devices import require_tokens
from tests.system import Server, System

pytestmark = in_chromium

# Playwright passes one argument to a script.
SHOW = f"([token, attributes]) => ({SHOW_WIDGET})(token, attributes)"
# Records when the page shows each turn, by the text of its prompt.
WATCH = """() => {
  const seen = window.seen = {};
  const look = () => {
    const root = document.querySelector("holdline-chat").shadowRoot;
    for (const turn of root.querySelectorAll(".turn")) {
      const prompt = turn.querySelector(".prompt").lastChild.textContent;
      const status = turn.querySelector(".answer").dataset.status;
      seen[`${prompt} shown`] ??= Date.now();
      if (turn.querySelector(".text").textContent) seen[`${prompt} text`] ??= Date.now();
      if (status === "completed") seen[`${prompt} end`] ??= Date.now();
    }
    requestAnimationFrame(look);
  };
  look();
}"""
TOOL = "{ type: 'mcp', server_label: 'm', server_url: 'https://m.example' }"
LONG = "tokens=5 sky and a title that is too long for the list beside it"
TURNS = """() => document.querySelector("holdline-chat").turns
  .map(({ prompt, text, status }) => [prompt, text, status])"""


@dataclass
class Site:
    """A server that requires tokens, with a worker and a model."""

    server: Server
    signer: str
    browser: Browser
    open_page: NewPage

    async def device(
        self, subject: str, context: BrowserContext | None = None, **attributes: str
    ) -> Page:
        """Opens the widget of a user in a browser context of its own."""
        there = context or await self.browser.new_context()
        page = await self.open_page(f"{self.server.url}/docs/empty", there)
        await self.show(page, subject, **attributes)
        return page

    async def show(self, page: Page, subject: str, **attributes: str) -> None:
        token = holdline_client.mint_token(self.signer, tenant="acme", subject=subject, seconds=900)
        await page.evaluate(SHOW, [token, {"conversations": "", **attributes}])
        await expect(page.locator("#state")).to_have_attribute("data-state", "open")


@pytest_asyncio.fixture(loop_scope="session")
async def site(
    system: System, tmp_path: Path, browser: Browser, open_page: NewPage
) -> AsyncIterator[Site]:
    signer = await require_tokens(system, tmp_path)
    async with FakeModel() as model:
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        yield Site(server, signer, browser, open_page)


async def turns(page: Page) -> list[list[str]]:
    found: list[list[str]] = await page.evaluate(TURNS)
    return found


async def until_turns(page: Page, count: int) -> list[list[str]]:
    """Waits until a page shows this number of finished turns."""
    deadline = time.monotonic() + 30
    while True:
        found = await turns(page)
        if len(found) == count and all(status == "completed" for _, _, status in found):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)  # the polling interval


async def test_a_conversation_is_the_same_on_two_devices_and_on_no_other_users(site: Site) -> None:
    phone, desk, other = await asyncio.gather(*map(site.device, ("anna", "anna", "ben")))
    await ask(phone, "tokens=5 one")
    await until_turns(phone, 1)
    first = await until_turns(desk, 1)
    await ask(desk, "tokens=5 two")
    assert first == (await until_turns(desk, 2))[:1]
    assert await until_turns(phone, 2) == await turns(desk)
    assert [] == await turns(other)
    await desk.reload()
    await site.show(desk, "anna")
    assert await until_turns(desk, 2) == await turns(phone)


async def test_regenerated_answers_and_edited_prompts_are_branches_on_all_devices(
    site: Site,
) -> None:
    phone, desk = await asyncio.gather(*map(site.device, ("anna", "anna")))
    await ask(phone, "tokens=5 one")
    await until_turns(phone, 1)
    await ask(phone, "tokens=5 two")
    await until_turns(phone, 2)
    await phone.locator(".regenerate").last.click()
    for page in (phone, desk):
        await expect(page.locator(".branch-place")).to_have_text("2/2")
        await until_turns(page, 2)
    await phone.locator(".earlier").click()
    await expect(phone.locator(".branch-place")).to_have_text("1/2")
    await expect(desk.locator(".branch-place")).to_have_text("2/2")
    await phone.locator(".action.edit").first.click()
    await ask(phone, "tokens=5 three")
    assert ["tokens=5 three"] == [prompt for prompt, _, _ in await until_turns(phone, 1)]
    await expect(desk.locator(".branch-place").first).to_have_text("2/2")
    await desk.locator(".earlier").first.click()
    assert ["tokens=5 one", "tokens=5 two"] == [prompt for prompt, _, _ in await turns(desk)]


async def test_the_list_searches_renames_deletes_and_exports(site: Site) -> None:
    phone, desk = await asyncio.gather(*map(site.device, ("anna", "anna")))
    await ask(phone, "tokens=5 sky")
    await until_turns(phone, 1)
    await phone.click("#new")
    await ask(phone, "tokens=5 sea")
    await until_turns(phone, 1)
    await desk.click(".list-button")
    titles = desk.locator(".conversation-title")
    await expect(titles).to_have_text(["tokens=5 sea", "tokens=5 sky"])
    await desk.evaluate(AXE.read_text())
    assert [] == await desk.evaluate(AXE_RUN.replace("(document,", "('holdline-chat',"))
    await desk.fill(".search", "SKY")
    await expect(titles).to_have_text(["tokens=5 sky"])
    await desk.get_by_label("Rename tokens=5 sky").click()
    await desk.fill(".new-title", "The sky")
    await desk.keyboard.press("Enter")
    await expect(titles).to_have_text(["The sky"])
    async with desk.expect_download() as downloading:
        await desk.get_by_label("Export The sky as Markdown").click()
    download = await downloading.value
    assert "The-sky.md" == download.suggested_filename
    text = Path(await download.path()).read_text()
    assert text.startswith("# The sky\n\n## ")
    assert "tokens=5 sky" in text
    assert "t4" in text
    await desk.fill(".search", "")
    await desk.get_by_label("Delete tokens=5 sea").click()
    await desk.click(".keep")
    await expect(titles).to_have_count(2)
    await desk.get_by_label("Delete tokens=5 sea").click()
    remove = desk.locator(".remove")
    assert await remove.evaluate("button => button.scrollWidth <= button.clientWidth")
    await remove.click()
    await expect(titles).to_have_text(["The sky"])
    await expect(phone.locator(".turn")).to_have_count(0)
    await desk.keyboard.press("Escape")
    await expect(desk.locator(".conversations")).to_have_count(0)


@pytest.mark.heavy
async def test_the_list_is_beside_the_conversation_if_the_widget_is_wide(site: Site) -> None:
    page = await site.device("anna")
    await page.set_viewport_size({"width": 1100, "height": 800})
    await ask(page, LONG)
    await until_turns(page, 1)
    await page.click(".list-button")
    both = page.locator(".conversations"), page.locator(".turns")
    boxes = [await one.bounding_box() for one in both]
    [listing, conversation] = [box for box in boxes if box is not None]
    assert listing["x"] + listing["width"] <= conversation["x"]
    removal = await page.get_by_label(f"Delete {LONG}").bounding_box()
    assert removal is not None
    assert removal["x"] + removal["width"] <= listing["x"] + listing["width"]
    await page.click(".choose")
    await expect(both[0]).to_be_visible()
    await page.set_viewport_size({"width": 390, "height": 800})
    box = await both[0].bounding_box()
    assert box is not None
    assert box["width"] > 300
    await page.click(".choose")
    await expect(both[0]).to_have_count(0)


@pytest.mark.parametrize("count", [12, pytest.param(200, marks=pytest.mark.heavy)])
@pytest.mark.timeout(1_500)
async def test_two_devices_agree_although_one_of_them_is_offline_at_random_moments(
    site: Site, count: int
) -> None:
    """Prints how much later the other device shows each prompt, its first text and its end."""
    rng = random.Random(7)
    context = await site.browser.new_context()
    desk, phone = await site.device("anna"), await site.device("anna", context)
    other = await site.device("ben")
    for page in (desk, phone):
        await page.evaluate(WATCH)
    online: set[str] = set()
    for number in range(count):
        is_offline = number > 0 and rng.random() < 0.4
        page = phone if rng.random() < 0.5 else desk
        prompt = f"tokens=6 interval=0.02 turn {number}"
        await context.set_offline(is_offline)
        await ask(page, prompt)
        if is_offline:
            await asyncio.sleep(rng.random())
            await context.set_offline(False)
        else:
            online.add(prompt)
        await asyncio.gather(until_turns(desk, number + 1), until_turns(phone, number + 1))
    assert await turns(desk) == await turns(phone)
    assert [] == await turns(other)
    here, there = [await page.evaluate("() => window.seen") for page in (desk, phone)]
    delays = sorted(abs(here[key] - there[key]) for key in here if key.rsplit(" ", 1)[0] in online)
    median, high = delays[len(delays) // 2], delays[len(delays) * 9 // 10]
    print(f"{len(delays)} steps: median {median} ms, p90 {high} ms, maximum {delays[-1]} ms")


@pytest.mark.heavy
async def test_a_first_prompt_without_a_connection_is_sent_later(site: Site) -> None:
    context = await site.browser.new_context()
    phone, desk = await site.device("anna", context), await site.device("anna")
    await context.set_offline(True)
    await ask(phone, "tokens=5 one")
    await phone.wait_for_timeout(300)
    assert "sending" == (await turns(phone))[0][2]
    await context.set_offline(False)
    await wait_for_end(phone)
    assert await until_turns(phone, 1) == await until_turns(desk, 1)


async def test_the_badge_of_a_closed_widget_ends_when_another_device_has_read_the_answer(
    site: Site,
) -> None:
    phone, desk = [await site.device("anna", mode="floating", open="") for _ in range(2)]
    await ask(phone, "tokens=5 one")
    await until_turns(desk, 1)
    for page in (phone, desk):
        await element(page, "chat.close()")
    await element(desk, "chat.send('tokens=5 two')")
    for page in (phone, desk):
        await expect(page.locator(".badge")).to_have_text("1")
    await element(desk, "chat.open()")
    await expect(phone.locator(".badge")).to_be_hidden()


async def test_feedback_is_shown_on_all_devices(site: Site) -> None:
    phone = await site.device("anna", feedback="")
    for prompt in ("one", "two"):
        await ask(phone, f"tokens=5 {prompt}")
        await wait_for_end(phone)
    await phone.locator(".thumb.down").first.click()
    await phone.locator(".feedback-comment").first.fill("Too short.")
    async with phone.expect_response("**/feedback"):
        await phone.get_by_role("button", name="Send the comment").first.click()
    desk = await site.device("anna", feedback="")
    down = desk.locator(".thumb.down")
    await expect(down).to_have_count(2)
    await expect(down.first).to_have_attribute("aria-pressed", "true")
    await expect(down.last).to_have_attribute("aria-pressed", "false")
    await down.first.click()  # takes the feedback back
    await expect(down.first).to_have_attribute("aria-pressed", "false")
    await expect(phone.locator(".thumb.down").first).to_have_attribute("aria-pressed", "false")
    await desk.locator(".thumb.up").first.click()
    await expect(desk.locator(".feedback-comment").first).to_have_value("")
    await expect(phone.locator(".thumb.up").first).to_have_attribute("aria-pressed", "true")


async def test_feedback_is_live_and_keeps_a_comment_that_is_being_written(site: Site) -> None:
    context = await site.browser.new_context()
    phone, desk = (
        await site.device("anna", context, feedback=""),
        await site.device("anna", feedback=""),
    )
    await ask(phone, "tokens=5 one")
    for page in (phone, desk):
        await until_turns(page, 1)
    await phone.locator(".thumb.down").click()
    await phone.locator(".feedback-comment").fill("Too")
    await expect(desk.locator(".thumb.down")).to_have_attribute("aria-pressed", "true")
    await desk.locator(".thumb.up").click()
    await expect(phone.locator(".thumb.up")).to_have_attribute("aria-pressed", "true")
    await expect(phone.locator(".thumb.down")).to_have_attribute("aria-pressed", "false")
    await expect(phone.locator(".feedback-comment")).to_have_value("Too")
    await phone.locator(".feedback-comment").fill("")
    await context.set_offline(True)
    await desk.locator(".feedback-comment").fill("Good.")
    async with desk.expect_response("**/feedback"):
        await desk.get_by_role("button", name="Send the comment").click()
    await context.set_offline(False)
    await expect(phone.locator(".feedback-comment")).to_have_value("Good.")
    await desk.locator(".thumb.up").click()  # takes the feedback back
    await expect(phone.locator(".thumb.up")).to_have_attribute("aria-pressed", "false")
    await expect(phone.locator(".feedback")).to_be_hidden()


@pytest.mark.parametrize("both", [False, True])
async def test_one_device_decides_about_a_tool_for_all_devices(
    system: System, tmp_path: Path, browser: Browser, open_page: NewPage, both: bool
) -> None:
    signer = await require_tokens(system, tmp_path)
    async with FakeModel() as model:
        models = tmp_path / "models.toml"
        models.write_text(MODELS.format(url=model.url))
        system.environ |= {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        await decide(Site(server, signer, browser, open_page), both)
        assert len(model.calls) == 2


async def decide(site: Site, both: bool) -> None:
    """Decides about a tool call on one device, or differently on both, and compares them."""
    phone, desk = [await site.device("anna", model=HOSTED) for _ in range(2)]
    for page in (phone, desk):
        await element(page, f"Object.assign(chat, {{ request: {{ tools: [{TOOL}] }} }})")
    await ask(phone, 'mode=call name=m args={"a":1}')
    for page in (phone, desk):
        await expect(page.locator(".approval-question")).to_contain_text("may use find")
    if both:
        await asyncio.gather(phone.locator(".deny").click(), desk.locator(".approve").click())
    else:
        await desk.locator(".approve").click()
    for page in (phone, desk):
        await expect(page.locator(".approve")).to_have_count(0)
        await expect(page.locator("article.answer")).to_have_count(2)
        for place in range(2):
            answer = page.locator("article.answer").nth(place)
            await expect(answer).to_have_attribute("data-status", "completed")
        # The device whose decision was refused reads the other one from the server.
        await expect(page.locator(".tool-state").first).not_to_have_text("waiting")
    states = [await page.locator(".tool-state").first.inner_text() for page in (phone, desk)]
    assert states[0] == states[1]
    assert states[0] in {"allowed", "not allowed"} if both else states[0] == "allowed"
