"""Tests the widget in a real Chromium, with a real server, worker and Redis.

After any fault of the page or its connection, the page must finally show the text in the log
exactly once.
"""

from __future__ import annotations

import asyncio
import random

import pytest
from playwright.async_api import Browser, Page, WebSocket, expect

from tests.browser import NewPage, ask, in_chromium, wait_for_end, wait_for_text
from tests.paths.conftest import Shared
from tests.system import System, wait_until

pytestmark = in_chromium


async def wait_for_more_tokens(shared: Shared, prompt: str) -> None:
    """Waits until the model has sent ten more tokens or its whole answer."""
    [call] = shared.calls(prompt)
    before = len(call.sent.split())
    await wait_until(lambda: call.ended or len(call.sent.split()) >= before + 10)


async def test_an_answer_survives_twenty_reloads_at_random_moments(
    shared: Shared, open_page: NewPage
) -> None:
    rng = random.Random(5)
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=300 pace=0.03")
    await ask(page, prompt)
    for _ in range(20):
        await asyncio.sleep(rng.uniform(0.0, 0.5))  # reload at a random point of the answer
        await page.reload()
    assert await wait_for_end(page) == shared.answer_to(prompt)
    assert 1 == await page.locator("article.answer").count()


async def test_a_page_restored_from_the_back_forward_cache_continues(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        "addEventListener('pageshow', e => { if (e.persisted) document.title = 'persisted' })"
    )
    prompt = shared.prompt("mode=slow tokens=120 pace=0.03")
    await ask(page, prompt)
    await wait_for_text(page)
    await page.goto(f"{shared.server.url}/docs/protocol")
    await wait_for_more_tokens(shared, prompt)
    await page.evaluate("history.back()")
    await page.wait_for_url(f"{shared.server.url}/", wait_until="commit")
    assert await wait_for_end(page) == shared.answer_to(prompt)
    assert "persisted" == await page.title()


@pytest.mark.heavy
async def test_a_frozen_page_catches_up_when_it_resumes(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=100 pace=0.03")
    await ask(page, prompt)
    await wait_for_text(page)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    await wait_for_more_tokens(shared, prompt)
    await devtools.send("Page.setWebLifecycleState", {"state": "active"})
    assert await wait_for_end(page) == shared.answer_to(prompt)


async def test_an_answer_continues_after_the_network_was_offline(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=150 pace=0.05")
    await ask(page, prompt)
    await wait_for_text(page)
    await page.context.set_offline(True)
    await expect(page.locator("#banner")).to_be_visible(timeout=20_000)
    await page.context.set_offline(False)
    assert await wait_for_end(page) == shared.answer_to(prompt)
    await expect(page.locator("#banner")).to_be_hidden()


async def test_a_prompt_written_offline_is_shown_as_unsent_and_sent_once(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.wait_for_timeout(500)
    await page.context.set_offline(True)
    await expect(page.locator("#banner")).to_be_visible(timeout=20_000)
    prompt = shared.prompt("tokens=30")
    await ask(page, prompt)
    await expect(page.locator("article.answer .note")).to_have_text(
        "Not sent yet. It will be sent once you are connected."
    )
    assert [] == shared.calls(prompt)
    await page.context.set_offline(False)
    assert await wait_for_end(page) == shared.answer_to(prompt)


async def test_a_hidden_tab_reconnects_when_it_is_shown(shared: Shared, open_page: NewPage) -> None:
    """A hidden tab whose socket is closed does not reconnect until it is shown again."""
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=100 pace=0.03")
    await ask(page, prompt)
    await wait_for_text(page)
    await hide(page, hidden=True)
    await page.click("#plug")  # closes all sockets of the page for five seconds
    await expect(page.locator("#state")).to_have_attribute("data-state", "reconnecting")
    await expect(page.locator("#plugged")).to_contain_text("Plugged in again", timeout=15_000)
    await expect(page.locator("#state")).not_to_have_attribute("data-state", "closed")
    await hide(page, hidden=False)
    assert await wait_for_end(page) == shared.answer_to(prompt)


HOUR_MS = 3_600_000


@pytest.mark.parametrize("timers", ["fire", "sleep"])
async def test_a_tab_that_was_hidden_for_an_hour_catches_up(
    shared: Shared, open_page: NewPage, timers: str
) -> None:
    """Playwright controls the page's clock and timers from before its first script.

    In a background tab, each timer due in that hour fires. In a sleeping tab, each timer fires once
    and late, as after a laptop wakes.
    """
    page = await open_page(f"{shared.server.url}/livez")
    await page.clock.install()
    await page.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=150 pace=0.03")
    await ask(page, prompt)
    await wait_for_text(page)
    began = await page.evaluate("Date.now()")
    await hide(page, hidden=True)
    sockets: list[str] = []

    def on_socket(socket: WebSocket) -> None:
        sockets.append(socket.url)

    page.on("websocket", on_socket)
    if timers == "fire":
        await page.clock.run_for(HOUR_MS)
    else:
        await page.clock.fast_forward(HOUR_MS)
    assert await page.evaluate("Date.now()") - began >= HOUR_MS
    # The page received no pong in that hour, so it closed its socket. It opens no new socket while
    # it is hidden.
    if timers == "fire":
        await expect(page.locator("#state")).to_have_attribute("data-state", "reconnecting")
        await asyncio.sleep(1)  # wait until a reconnection would have happened
        assert [] == sockets
    await hide(page, hidden=False)
    assert await wait_for_end(page) == shared.answer_to(prompt)
    assert 1 == await page.locator("article.answer").count()
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")


async def hide(page: Page, *, hidden: bool) -> None:
    await page.evaluate(
        """hidden => {
          const state = hidden ? "hidden" : "visible";
          Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_two_tabs_of_one_conversation_both_receive_updates(
    shared: Shared, open_page: NewPage, browser: Browser
) -> None:
    context = await browser.new_context()
    one = await open_page(shared.server.url, context)
    other = await open_page(shared.server.url, context)
    prompt = shared.prompt("mode=slow tokens=120 pace=0.03")
    await ask(one, prompt)
    await wait_for_text(one)
    await wait_for_text(other, "t9 ")
    assert await wait_for_end(one) == await wait_for_end(other) == shared.answer_to(prompt)
    back = shared.prompt("tokens=10")
    await ask(other, back)
    await expect(other.locator("article.answer")).to_have_count(2)
    assert await wait_for_end(other) == shared.answer_to(back)
    await expect(one.locator("article.answer")).to_have_count(2)
    assert await wait_for_end(one) == shared.answer_to(back)
    await one.bring_to_front()
    await one.click("#new")
    await expect(other.locator("article.answer")).to_have_count(0)


async def test_the_pull_the_plug_demo_loses_no_text(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=150 pace=0.05")
    await ask(page, prompt)
    await wait_for_text(page)
    await page.click("#plug")
    await expect(page.locator("#banner")).to_contain_text("Reconnecting")
    await expect(page.locator("#plugged")).to_contain_text(
        "Plugged in again, and connected", timeout=15_000
    )
    assert await wait_for_end(page) == shared.answer_to(prompt)


async def test_a_short_connection_loss_shows_no_banner(
    shared: Shared, beside: System, open_page: NewPage
) -> None:
    server = await beside.server()
    page = await open_page(server.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.evaluate(
        """() => {
          window.spoken = false;
          const root = document.querySelector("holdline-chat").shadowRoot;
          const banner = root.querySelector("#banner");
          new MutationObserver(() => { if (!banner.hidden) window.spoken = true })
            .observe(banner, { attributes: true });
          window.WebSocket = class extends WebSocket {};
        }"""
    )
    await page.evaluate("dispatchEvent(new Event('pagehide'))")
    await expect(page.locator("#state")).to_have_attribute("data-state", "reconnecting")
    await page.evaluate("dispatchEvent(new Event('pageshow'))")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    assert not await page.evaluate("window.spoken")


async def test_an_answer_with_a_wrong_checksum_is_fetched_again(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(f"{shared.server.url}/livez")
    await page.add_init_script(
        """window.damaged = 0;
        window.WebSocket = class extends WebSocket {
          set onmessage(run) {
            super.onmessage = run && (message => {
              const event = JSON.parse(message.data);
              if (event.type !== "response.completed" || window.damaged++) return run(message);
              event.response.output[0].content[0].text = "not what was said";
              run({ data: JSON.stringify(event) });
            });
          }
        };"""
    )
    await page.goto(shared.server.url)
    prompt = shared.prompt("tokens=30")
    await ask(page, prompt)
    text = await wait_for_end(page)
    await expect(page.locator("article.answer .note")).to_contain_text("the checksum matches")
    assert await wait_for_end(page) == text == shared.answer_to(prompt)
    assert 2 == await page.evaluate("window.damaged")
