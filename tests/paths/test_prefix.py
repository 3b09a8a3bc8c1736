"""Tests the pages under a path prefix, behind the provided proxies, in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, Response, expect

from tests.browser import Watch, in_chromium
from tests.paths.conftest import Shared
from tests.proxies.fronted import PROXIES, run_proxy

pytestmark = in_chromium


@pytest.mark.parametrize("proxy", PROXIES)
async def test_every_page_works_under_a_path_prefix(
    shared: Shared, browser: Browser, tmp_path: Path, proxy: str
) -> None:
    port = int(shared.server.url.rpartition(":")[2])
    async with run_proxy(proxy, port, tmp_path) as url:
        page = await (await browser.new_context()).new_page()
        watch = Watch(page, url.split("/")[2])
        failed: list[str] = []

        def on_response(response: Response) -> None:
            if response.status >= 400 or "/chat" not in response.url:
                failed.append(f"{response.status} {response.url}")

        page.on("response", on_response)
        await page.goto(url)
        await page.wait_for_url(re.compile("/chat/$"))
        await page.fill("#prompt", shared.prompt("tokens=5"))
        await page.click("#send")
        answer = page.locator("article.answer").last
        await expect(answer).to_have_attribute("data-status", "completed", timeout=20_000)
        await page.get_by_role("link", name="Code review", exact=True).click()
        await page.wait_for_url(re.compile("/chat/review$"))
        await page.fill("#code", f"def f():\n    # {shared.prompt('tokens=5')}\n    return 1\n")
        await page.click(".go")
        await expect(page.locator(".sections")).to_have_attribute(
            "data-status", "completed", timeout=30_000
        )
        await page.goto(f"{url}/docs")
        await page.wait_for_url(re.compile("/chat/docs/protocol$"))
        # The heavy test follows the other links.
        await page.get_by_role("navigation").get_by_role("link").last.click()
        await expect(page.locator("#document h1")).to_be_visible()
        await page.get_by_role("link", name="Holdline").first.click()
        await page.wait_for_url(re.compile("/chat/$"))
        assert [] == failed + watch.wrong


@pytest.mark.heavy
async def test_every_link_between_served_documents_works(shared: Shared, browser: Browser) -> None:
    await follow_links(browser, shared.server.url)


@pytest.mark.heavy
@pytest.mark.parametrize("proxy", PROXIES)
async def test_every_link_between_served_documents_works_under_a_path_prefix(
    shared: Shared, browser: Browser, tmp_path: Path, proxy: str
) -> None:
    port = int(shared.server.url.rpartition(":")[2])
    async with run_proxy(proxy, port, tmp_path) as url:
        await follow_links(browser, url)


async def follow_links(browser: Browser, url: str) -> None:
    page = await browser.new_page()
    seen: set[str] = set()
    todo = ["/docs"]
    while todo:
        response = await page.goto(url + todo.pop())
        assert response is not None
        assert 200 == response.status, response.url
        await expect(page.locator("#document h1")).to_be_visible()
        await expect(page.locator("#document[aria-busy]")).to_have_count(0)
        await page.wait_for_function("[...document.images].every((image) => image.complete)")
        assert await page.evaluate("[...document.images].every((image) => image.naturalWidth)")
        found = await page.evaluate("[...document.links].map((link) => link.href)")
        for address in {one.partition("#")[0].partition("?")[0] for one in found}:
            path = address.removeprefix(url)
            if path.startswith("/docs/") and path not in seen:
                seen.add(path)
                todo.append(path)
    assert {"/docs/client", "/docs/configure", "/docs/operating", "/docs/widget"} <= seen
