"""The Chromium used by tests and screenshots, and helpers for its pages."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
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

from tests.system import free_port

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed: apt install chromium"
)
# All tests share one Chromium, which belongs to the session's event loop. The tests therefore run
# in that loop.
in_session_loop = pytest.mark.asyncio(loop_scope="session")
in_chromium = [pytest.mark.browser, pytest.mark.timeout(120), needs_chromium, in_session_loop]

ROOT = Path(__file__).parent.parent
IN_PAGE = ROOT / "tests" / "web" / "in-page"
AXE = ROOT / "tests" / "web" / "node_modules" / "axe-core" / "axe.min.js"
AXE_RUN = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.map(v => `${v.id}: ${v.nodes.map(n => n.target.join(" ")).join(" | ")}`);
}"""
MARKDOWN = json.loads((ROOT / "tests" / "vectors" / "markdown.json").read_text())
# Records the errors of a page in the list `wrong`.
RECORD_ERRORS = """() => {
  if (window.wrong) return;
  window.wrong = [];
  document.addEventListener("securitypolicyviolation", event =>
    wrong.push(`${event.violatedDirective}: ${event.blockedURI}`));
  addEventListener("error", event => wrong.push(String(event.message)));
  addEventListener("unhandledrejection", event => wrong.push(String(event.reason)));
}"""
# Replaces the page by a widget of one user, whose token the test has created.
SHOW_WIDGET = """async (token, attributes) => {
  const chat = document.createElement("holdline-chat");
  for (const [name, value] of Object.entries(attributes)) chat.setAttribute(name, value);
  chat.tokenProvider = () => token;
  document.body.replaceChildren(chat);
  await import("/widget.js");
}"""
SAMPLES: list[str] = MARKDOWN["samples"]
HOSTILE: list[str] = json.loads((ROOT / "tests" / "vectors" / "hostile.json").read_text())[
    "answers"
]

NewPage = Callable[..., Awaitable[Page]]
ServeApp = Callable[..., Awaitable[str]]
ServeSite = Callable[..., Awaitable[str]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=FLAGS,
            # Enable the back-forward cache, as in users' browsers. Playwright disables it by
            # default.
            ignore_default_args=["--disable-back-forward-cache"],
        )
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Browser) -> AsyncIterator[Browser]:
    """The session's browser, whose contexts and pages are closed after each test."""
    yield chromium
    for context in chromium.contexts:
        await context.close()


class Watch:
    """Records errors on a page: exceptions, CSP violations and requests to other hosts."""

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
        # The browser itself logs these messages, for each socket or file that fails to load.
        if message.type == "error" and not re.search(
            r"WebSocket connection|Failed to load resource", message.text
        ):
            self.wrong.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not any(request.url.startswith((f"http://{h}/", f"ws://{h}/")) for h in self._hosts):
            self.wrong.append(f"a request to {request.url}")


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser) -> AsyncIterator[NewPage]:
    """Opens a page in a new or given context. Any error on the page fails the test."""
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


async def wait_for_text(page: Page, token: str = "t3 ") -> None:
    """Waits until the last answer's text contains a token."""
    text = page.locator("article.answer .text").last
    await expect(text).to_have_text(re.compile(token), timeout=20_000)


async def wait_for_end(page: Page, status: str = "completed") -> str:
    """Waits until the last answer has the given final status, and returns its text."""
    answer = page.locator("article.answer").last
    await expect(answer).to_have_attribute("data-status", status, timeout=40_000)
    return (await answer.locator(".text").text_content() or "").strip()


async def element(page: Page, script: str) -> Any:
    """Returns the value of a JavaScript expression in which `chat` is the chat element."""
    return await page.evaluate(f"(chat => {script})(document.querySelector('holdline-chat'))")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[ServeApp]:
    """Serves applications on free ports, and returns their origins, until the context ends."""
    runners: list[web.AppRunner] = []

    async def serve(app: web.Application, port: int | None = None) -> str:
        # The timeout is short, because a page may keep a socket open until the browser exits.
        runner = web.AppRunner(app, shutdown_timeout=0.5)
        await runner.setup()
        runners.append(runner)
        port = port or free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return f"http://127.0.0.1:{port}"

    yield serve
    for runner in runners:
        await runner.cleanup()


@pytest_asyncio.fixture(loop_scope="session")
async def serve_app() -> AsyncIterator[ServeApp]:
    """Serves an application on a free port and returns its origin."""
    async with serving() as serve:
        yield serve


@pytest.fixture
def serve_site(serve_app: ServeApp) -> ServeSite:
    """Serves a page as another site and returns its origin."""

    async def serve(html: str, port: int | None = None, csp: str | None = None) -> str:
        headers = {} if csp is None else {"Content-Security-Policy": csp}

        async def page(request: web.Request) -> web.Response:
            return web.Response(text=html, content_type="text/html", headers=headers)

        async def icon(request: web.Request) -> web.Response:
            return web.Response(status=204)

        app = web.Application()
        app.router.add_get("/", page)
        app.router.add_get("/favicon.ico", icon)
        return await serve_app(app, port)

    return serve
