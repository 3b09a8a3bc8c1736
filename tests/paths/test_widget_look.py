"""Tests what a page can add to the widget: names, an opening message, suggestions, slots."""

from __future__ import annotations

import json
import re

from playwright.async_api import expect

from tests.browser import AXE, AXE_RUN, IN_PAGE, NewPage, ask, element, in_chromium, wait_for_end
from tests.paths.conftest import Shared

pytestmark = in_chromium

SAY = (IN_PAGE / "say.js").read_text()
OPENING = "Hello, I am *Holly*. What is your order number?"


async def test_names_times_the_opening_message_and_suggestions_are_shown(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url, locale="en-GB", timezone_id="Europe/Berlin")
    await element(
        page,
        f"Object.assign(chat, {{ assistantName: 'Holly', opening: {json.dumps(OPENING)} }})",
    )
    opening = page.locator(".opening")
    await expect(opening.locator("em")).to_have_text("Holly")
    await expect(opening.locator(".name")).to_have_text("Holly")
    prompt, follow_up = shared.prompt("tokens=5"), shared.prompt("mode=slow tokens=40 pace=0.05")
    await element(
        page,
        "chat.addEventListener('answer', () =>"
        f" Object.assign(chat, {{ userName: 'Anna', followUps: [{json.dumps(follow_up)}] }}))",
    )
    await ask(page, prompt)
    await wait_for_end(page)
    opened, asked = shared.calls(prompt)[0].body["messages"]
    assert ("assistant", OPENING, prompt) == (opened["role"], opened["content"], asked["content"])
    await expect(opening).to_be_visible()
    await expect(page.locator(".name")).to_have_text(["Holly", "Anna", "Holly"])
    time = page.locator(".turn time")
    await expect(time).to_have_text(re.compile(r"^\d\d?:\d\d"))
    assert (await time.get_attribute("datetime") or "").endswith("Z")
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN)
    await page.click(".follow-ups button")
    await expect(page.locator("article.answer")).to_have_count(2)
    await expect(page.locator(".follow-ups button")).to_have_count(0)
    await wait_for_end(page)
    assert [{"role": "user", "content": follow_up}] == shared.calls(follow_up)[0].body["messages"][
        -1:
    ]
    await expect(page.locator(".follow-ups button")).to_have_count(1)


async def test_a_page_fills_the_slots(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await element(
        page,
        """["header", "greeting", "before-composer", "launcher"].forEach(slot => {
          chat.append(Object.assign(document.createElement("span"), { slot, textContent: slot }));
        })""",
    )
    for slot in ("header", "greeting", "before-composer"):
        await expect(page.locator(f"span[slot={slot}]")).to_be_visible()
    await expect(page.locator(".title, .greeting")).to_have_count(2)
    await expect(page.locator(".title")).to_be_hidden()
    await expect(page.locator(".greeting")).to_be_hidden()
    await ask(page, shared.prompt("tokens=5"))
    await wait_for_end(page)
    await expect(page.locator("span[slot=greeting]")).to_be_hidden()
    await element(page, "chat.mode = 'floating'")
    await expect(page.locator("span[slot=launcher]")).to_be_visible()


async def test_footnotes_lead_to_their_text_and_back(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    text = "A claim[^1], another[^note].\n\n[^1]: First *source*\n[^note]: Second\n"
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"type": "message", "id": "i", "content": content}
    event = {"type": "response.output_item.done", "output_index": 0, "item": item}
    await page.evaluate(SAY, [event])
    await element(page, "chat.conversation = 'notes'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await element(page, "chat.send('go')")
    await wait_for_end(page)
    await page.get_by_role("button", name="Footnote note", exact=True).focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".footnote").last).to_be_focused()
    await expect(page.locator(".footnote").last).to_contain_text("Second")
    await page.get_by_role("button", name="Footnote note, back to the text").click()
    await expect(page.locator("[data-reference=note]")).to_be_focused()
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN)
