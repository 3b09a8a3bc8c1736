"""Tests that axe finds no violation in any state of the widget of which there is a screenshot."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Page

from tests.browser import AXE, AXE_RUN, in_chromium
from tests.screenshots import PARTS
from tests.widget_screens import ARABIC, DESK, LOOKS, Look

pytestmark = [
    *in_chromium,
    pytest.mark.skipif(
        not AXE.exists(), reason="axe-core is not installed: make check installs it"
    ),
]
# A page with nothing but the widget has no landmarks, so only the widget is examined. The pages of
# the reviewer have no widget and are examined as a whole.
RUN = AXE_RUN.replace("(document,", "(document.querySelector('holdline-chat') ?? document,")
FEW = [("additions", DESK)]
CASES = [
    pytest.param(
        part,
        look,
        id=f"{part}-{look.name}",
        marks=[] if (part, look) in FEW else [pytest.mark.heavy],
    )
    for part in PARTS
    for look in (*LOOKS, ARABIC)
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("part", "look"), CASES)
async def test_axe_reports_no_violations_in_any_state_that_has_a_screenshot(
    browser: Browser, part: str, look: Look
) -> None:
    violations: dict[str, list[str]] = {}

    async def examine(page: Page, name: str) -> None:
        if not await page.evaluate("() => 'axe' in window"):
            await page.evaluate(AXE.read_text())
        if found := await page.evaluate(RUN):
            violations[name] = found

    await PARTS[part](browser, examine, [look])
    assert {} == violations
