"""Helpers for the tests of the code review page."""

from __future__ import annotations

from playwright.async_api import Browser, Page

from tests.browser import Watch
from tests.paths.conftest import Shared


async def visitor(browser: Browser, url: str) -> tuple[Page, Watch]:
    page = await (await browser.new_context()).new_page()
    watch = Watch(page, url.split("/")[2])
    await page.goto(url)
    return page, watch


def calls(shared: Shared, mark: str) -> int:
    return sum(mark in call.prompt for call in list(shared.model.calls))
