"""Tests that the browser loads only files that match the integrity value of a pinned widget."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Route, expect

from server.http.static import pages
from tests.browser import ROOT, NewPage, ServeSite, Watch, ask, element, in_chromium, wait_for_end
from tests.paths.conftest import Shared
from tests.system import Server, System, free_port, module_command

pytestmark = in_chromium

PRINTED = re.compile(r"<script type=\"module\" crossorigin.*</holdline-chat>", re.DOTALL)


async def printed_snippet() -> str:
    """Returns the snippet that the command prints to embed exactly this version of the widget."""
    command = await asyncio.create_subprocess_exec(
        *module_command("server.http.static"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(command.communicate(), 30)
    found = PRINTED.search(output.decode())
    assert found is not None, output
    return found[0]


async def embed(beside: System, serve_site: ServeSite, lines: str) -> tuple[str, Server]:
    """Serves a page with the given snippet on another site.

    Also starts a server that allows the site.
    """
    port = free_port()
    server = await beside.server(HOLDLINE_ALLOWED_ORIGINS=f"http://127.0.0.1:{port}")
    lines = lines.replace("https://HOST", server.url)
    html = f'<!doctype html><html lang="en"><title>A shop</title><main>{lines}</main></html>'
    return await serve_site(html, port), server


async def test_the_printed_snippet_embeds_the_widget_on_another_site(
    shared: Shared, beside: System, open_page: NewPage, serve_site: ServeSite
) -> None:
    origin, server = await embed(beside, serve_site, await printed_snippet())
    page = await open_page(origin, None, server.url.split("/")[2])
    prompt = shared.prompt("tokens=20")
    await ask(page, prompt)
    assert await wait_for_end(page) == shared.answer_to(prompt)
    loaded = await page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    fixed = f"{server.url}/web/{pages().version}/"
    scripts = [url for url in loaded if url.partition("#")[0].endswith(".js")]
    assert {f"{fixed}widget.js", f"{fixed}turns.js"} <= {url.partition("#")[0] for url in scripts}
    assert [] == [url for url in scripts if not url.startswith(fixed)]


async def test_a_wrong_integrity_value_loads_nothing(
    beside: System, open_page: NewPage, serve_site: ServeSite
) -> None:
    right = pages().integrity
    wrong = f"sha384-{'A' * 64}"
    lines = (await printed_snippet()).replace(right, wrong)
    origin, server = await embed(beside, serve_site, lines)
    page = await open_page(origin, None, server.url.split("/")[2])
    assert await page.evaluate("customElements.get('holdline-chat') === undefined")
    watch: Watch = page.watch  # type: ignore[attr-defined]
    assert 1 == len(watch.wrong)
    assert "Failed to find a valid digest in the 'integrity' attribute" in watch.wrong[0]
    watch.wrong.clear()


@pytest.mark.parametrize("part", ["turns.js", "words/de.js"])
async def test_a_lazily_loaded_part_that_was_modified_in_transit_never_runs(
    shared: Shared, open_page: NewPage, part: str
) -> None:
    page = await open_page(f"{shared.server.url}/livez")
    changed = asyncio.Event()

    async def change(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=f"window.pwned = 1; {await answer.text()}")
        changed.set()

    await page.route(f"**/{part}", change)
    await page.goto(shared.server.url)
    await element(page, "chat.lang = 'de'")
    await asyncio.wait_for(changed.wait(), 20)
    words = "Ask…" if part.startswith("words/") else "Fragen…"
    await expect(page.locator("#prompt")).to_have_attribute("placeholder", words)
    await page.unroute(f"**/{part}", change)
    prompt = shared.prompt("tokens=20")
    await ask(page, prompt)
    # The page needs the rejected module and requests it again.
    assert await wait_for_end(page) == shared.answer_to(prompt)
    assert await page.evaluate("window.pwned === undefined")
    watch: Watch = page.watch  # type: ignore[attr-defined]
    assert watch.wrong
    assert [] == [text for text in watch.wrong if "valid digest" not in text]
    watch.wrong.clear()


@pytest.mark.parametrize("part", ["core.min.js", "languages/javascript.min.js"])
async def test_a_modified_part_of_the_highlighter_never_runs(
    shared: Shared, open_page: NewPage, part: str
) -> None:
    page = await open_page(shared.server.url)

    async def change(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=f"window.pwned = 1; {await answer.text()}")

    await page.route(f"**/vendor/highlight/{part}", change)
    watch: Watch = page.watch  # type: ignore[attr-defined]
    async with page.expect_event("console", lambda message: "valid digest" in message.text):
        await ask(page, shared.prompt("say=```javascript|let_x_=_1;|```|"))
        await wait_for_end(page)
    assert await page.evaluate("window.pwned === undefined")
    await expect(page.locator(".hl-keyword")).to_have_count(0)
    assert [] == [text for text in watch.wrong if "valid digest" not in text]
    watch.wrong.clear()


async def test_the_front_page_shows_the_printed_snippet(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await page.click("details summary")
    shown = page.locator("#pinned")
    await expect(shown).to_be_visible()
    lines = (await printed_snippet()).replace("https://HOST", shared.server.url)
    assert lines.split() == (await shown.inner_text()).split()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.click("[data-copies=pinned]")
    await expect(page.locator("[data-copies=pinned]")).to_have_text("Copied")
    assert lines.split() == (await page.evaluate("navigator.clipboard.readText()")).split()
