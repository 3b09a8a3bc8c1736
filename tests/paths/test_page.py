"""A real Chromium on the page at `/`: it asks, reloads in mid-answer, and has the answer once."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Error, Page, expect

from tests.browser import in_chromium
from tests.paths.conftest import Shared
from tests.system import Server, System

pytestmark = in_chromium


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page; console errors, and so violations of its CSP, fail the test."""
    page = await browser.new_page()
    wrong: list[str] = []

    def on_error(error: Error) -> None:
        wrong.append(str(error))

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            wrong.append(message.text)

    page.on("pageerror", on_error)
    page.on("console", on_console)
    yield page
    # A socket that could not connect is reported by the browser itself, whatever the page does.
    assert [] == [text for text in wrong if "WebSocket connection" not in text]


async def ask(page: Page, prompt: str) -> None:
    await page.fill("#prompt", prompt)
    await page.click("#send")


async def ended(page: Page, status: str = "completed") -> str:
    """The text of the last answer, once it has ended with this status."""
    answer = page.locator("article.answer").last
    await expect(answer).to_have_attribute("data-status", status, timeout=20_000)
    return await answer.locator(".text").text_content() or ""


async def test_the_page_streams_an_answer_as_it_is_written(shared: Shared, page: Page) -> None:
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=60 pace=0.03")
    await ask(page, prompt)
    text = page.locator("article.answer .text")
    await expect(text).to_have_text(re.compile("t3 "), timeout=10_000)
    assert "t59" not in await text.inner_text()
    shown = await ended(page)
    assert shared.calls(prompt)[0].sent.strip() == shown.strip()


async def test_a_reload_in_mid_answer_shows_the_whole_answer_once(
    shared: Shared, page: Page
) -> None:
    rng = random.Random(7)
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=80 pace=0.03")
    await ask(page, prompt)
    for _ in range(3):
        await asyncio.sleep(rng.uniform(0.05, 0.6))  # where in the answer is what is random
        await page.reload()
    text = await ended(page)
    assert shared.calls(prompt)[0].sent.strip() == text.strip()
    assert 1 == await page.locator("article.answer").count()
    assert 1 == len(shared.calls(prompt))


async def test_stop_stops_the_model(shared: Shared, page: Page) -> None:
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=2000 pace=0.02")
    await ask(page, prompt)
    await expect(page.locator("article.answer .text")).to_have_text(
        re.compile("t3 "), timeout=10_000
    )
    await page.click("#stop")
    await ended(page, "cancelled")
    assert shared.calls(prompt)[0].closed_by_client is not None


async def test_what_a_model_says_is_text_and_never_markup(shared: Shared, page: Page) -> None:
    await page.goto(shared.server.url)
    await ask(page, shared.prompt("say=<img_src=x_onerror=document.title='pwned'><b>bold</b>"))
    assert "<b>bold</b>" in await ended(page)
    assert 0 == await page.locator("article.answer img, article.answer b").count()
    assert "pwned" not in await page.title()


@pytest.fixture
async def lonely(system: System, shared: Shared) -> Server:
    """A server of one's own on the shared Redis, to be killed."""
    system.environ["REDIS_URL"] = shared.redis_url
    return await system.server()


async def test_the_page_says_that_it_reconnects_and_has_the_answer_when_the_server_is_back(
    shared: Shared, system: System, lonely: Server, page: Page
) -> None:
    await page.goto(lonely.url)
    prompt = shared.prompt("mode=slow tokens=60 pace=0.1")
    await ask(page, prompt)
    await expect(page.locator("article.answer .text")).to_have_text(
        re.compile("t3 "), timeout=10_000
    )
    await lonely.kill()
    await expect(page.locator("#state")).to_have_attribute(
        "data-state", "reconnecting", timeout=10_000
    )
    await expect(page.locator("#banner")).to_be_visible(timeout=10_000)
    await system.server(HOLDLINE_PORT=lonely.url.rpartition(":")[2])
    text = await ended(page)
    assert shared.calls(prompt)[0].sent.strip() == text.strip()
    assert 1 == len(shared.calls(prompt))
