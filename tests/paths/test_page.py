"""Tests streaming, reload, stop and reconnection on the page at `/` in a real Chromium."""

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
    """Opens a page. Console errors, including CSP violations, fail the test."""
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
    # The browser itself logs these messages, for each socket that fails to connect.
    assert [] == [text for text in wrong if "WebSocket connection" not in text]


async def ask(page: Page, prompt: str) -> None:
    await page.fill("#prompt", prompt)
    await page.click("#send")


async def wait_for_end(page: Page, status: str = "completed") -> str:
    """Waits until the last answer has the given final status, and returns its text."""
    answer = page.locator("article.answer").last
    await expect(answer).to_have_attribute("data-status", status, timeout=20_000)
    return await answer.locator(".text").text_content() or ""


async def test_the_page_streams_an_answer(shared: Shared, page: Page) -> None:
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=60 pace=0.03")
    await ask(page, prompt)
    text = page.locator("article.answer .text")
    await expect(text).to_have_text(re.compile("t3 "), timeout=10_000)
    assert "t59" not in await text.inner_text()
    shown = await wait_for_end(page)
    assert shared.calls(prompt)[0].sent.strip() == shown.strip()


async def test_a_reload_in_mid_answer_shows_the_complete_answer_once(
    shared: Shared, page: Page
) -> None:
    rng = random.Random(7)
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=80 pace=0.03")
    await ask(page, prompt)
    for _ in range(3):
        await asyncio.sleep(rng.uniform(0.05, 0.6))  # reload at a random point of the answer
        await page.reload()
    text = await wait_for_end(page)
    assert shared.calls(prompt)[0].sent.strip() == text.strip()
    assert 1 == await page.locator("article.answer").count()
    assert 1 == len(shared.calls(prompt))


async def test_the_stop_button_cancels_the_model_call(shared: Shared, page: Page) -> None:
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=2000 pace=0.02")
    await ask(page, prompt)
    await expect(page.locator("article.answer .text")).to_have_text(
        re.compile("t3 "), timeout=10_000
    )
    await page.click("#stop")
    await wait_for_end(page, "cancelled")
    assert shared.calls(prompt)[0].closed_by_client is not None


async def test_html_in_an_answer_is_shown_as_text(shared: Shared, page: Page) -> None:
    await page.goto(shared.server.url)
    await ask(page, shared.prompt("say=<img_src=x_onerror=document.title='pwned'><b>bold</b>"))
    assert "<b>bold</b>" in await wait_for_end(page)
    assert 0 == await page.locator("article.answer img, article.answer b").count()
    assert "pwned" not in await page.title()


@pytest.fixture
async def own_server(beside: System) -> Server:
    """Starts a server that the test may kill, on the shared Redis."""
    return await beside.server()


@pytest.mark.heavy
async def test_the_page_shows_that_it_reconnects_and_then_completes_the_answer(
    shared: Shared, beside: System, own_server: Server, page: Page
) -> None:
    await page.goto(own_server.url)
    prompt = shared.prompt("mode=slow tokens=60 pace=0.1")
    await ask(page, prompt)
    await expect(page.locator("article.answer .text")).to_have_text(
        re.compile("t3 "), timeout=10_000
    )
    await own_server.kill()
    await expect(page.locator("#state")).to_have_attribute(
        "data-state", "reconnecting", timeout=10_000
    )
    await expect(page.locator("#banner")).to_be_visible(timeout=10_000)
    await beside.server(HOLDLINE_PORT=own_server.url.rpartition(":")[2])
    text = await wait_for_end(page)
    assert shared.calls(prompt)[0].sent.strip() == text.strip()
    assert 1 == len(shared.calls(prompt))
