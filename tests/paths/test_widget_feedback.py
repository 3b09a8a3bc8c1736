"""Tests how visitors rate answers in the widget, and what the page learns of it."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser import AXE, AXE_RUN, NewPage, ask, element, in_chromium, wait_for_end
from tests.paths.conftest import Shared

pytestmark = in_chromium


async def test_a_visitor_rates_an_answer_and_the_page_is_told(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(
        shared.server.url, viewport={"width": 360, "height": 740}, has_touch=True
    )
    await ask(page, shared.prompt("mode=400"))
    await wait_for_end(page, "failed")
    await ask(page, shared.prompt("tokens=5"))
    await wait_for_end(page)
    await expect(page.locator(".thumb")).to_have_count(0)
    await element(
        page,
        """(chat.feedback = true, window.told = [], chat.addEventListener("feedback",
          ({ detail }) => told.push([detail.responseId, detail.rating, detail.comment])))""",
    )
    up, down = (page.locator(f".thumb.{name}").last for name in ("up", "down"))
    await expect(page.locator(".thumb.up").first).to_be_hidden()  # the first answer has failed
    await up.click()
    await down.click()
    await expect(up).to_have_attribute("aria-pressed", "false")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await page.locator(".feedback-comment").last.fill(" too short ")
    await page.get_by_role("button", name="Send the comment").click()
    await expect(page.locator(".feedback-thanks").last).to_have_text("Thank you.")
    await page.get_by_role("button", name="Send the comment").click()  # nothing has changed
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN)
    small = await page.locator(".answer button").evaluate_all(
        "all => all.map(b => b.getBoundingClientRect())"
        ".filter(b => b.width > 0 && (b.width < 44 || b.height < 44))"
    )
    assert [] == small
    id_ = (await element(page, "chat.turns"))[1]["responseId"]
    told = [[id_, "up", ""], [id_, "down", ""], [id_, "down", "too short"]]
    assert told == await page.evaluate("told")
    await page.reload()
    await element(page, "chat.feedback = true")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await element(
        page, "chat.addEventListener('feedback', ({ detail }) => window.last = detail.rating)"
    )
    await down.click()  # takes the rating back
    await expect(down).to_have_attribute("aria-pressed", "false")
    assert await page.evaluate("window.last === null")
