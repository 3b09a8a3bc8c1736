"""Tests the widget's messages for each state of an answer, and the actions on an answer."""

from __future__ import annotations

import re

import aiohttp
from playwright.async_api import expect

from tests.browser import NewPage, ask, element, in_chromium, wait_for_end, wait_for_text
from tests.paths.conftest import Shared
from tests.system import wait_until

pytestmark = in_chromium


async def test_each_state_shows_its_note_and_its_actions(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    note = page.locator("article.answer .note").last
    prompt = shared.prompt("mode=slow tokens=400 pace=0.03")
    await ask(page, prompt)
    await expect(note).to_have_text("Writing…")
    await page.click("#stop")
    await wait_for_end(page, "cancelled")
    await expect(note).to_have_text("Stopped. This is the answer so far.")
    await page.click(".again")
    await wait_for_text(page)
    await page.click("#stop")
    await wait_for_end(page, "cancelled")
    assert 1 == await page.locator("article.answer").count()
    failing = shared.prompt("mode=401")
    await ask(page, failing)
    await wait_for_end(page, "failed")
    await expect(note).to_contain_text("You can ask again.")


async def test_a_restart_replaces_the_text_and_shows_the_attempt(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    prompt = shared.prompt("mode=rst tokens=40 at=20 pace=0.02 times=1")
    await ask(page, prompt)
    await wait_for_text(page, "c\\d+t5 ")
    text = await wait_for_end(page)
    calls = shared.calls(prompt)
    assert 2 == len(calls)
    assert calls[1].sent.strip() == text
    assert f"c{calls[0].number}t" not in text
    await expect(page.locator("article.answer .note")).to_contain_text("attempt 2")


async def test_an_answer_can_be_regenerated_and_copied_and_its_prompt_edited(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    first = shared.prompt("tokens=5")
    await ask(page, first)
    await wait_for_end(page)
    await page.click(".regenerate")
    await expect(page.locator("article.answer .text")).to_have_text(
        re.compile(rf"^c{shared.calls(first)[0].number + 1}t|^c\d+t")
    )
    await wait_until(lambda: 2 == len(shared.calls(first)))
    text = await wait_for_end(page)
    assert shared.calls(first)[1].sent.strip() == text
    assert 1 == await page.locator("article.answer").count()
    await page.click(".copy")
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert shared.calls(first)[1].sent == copied
    await page.click(".edit")
    await expect(page.locator("#prompt")).to_have_value(first)
    second = shared.prompt("tokens=6")
    await ask(page, second)
    await expect(page.locator(".turn .prompt")).to_contain_text(second)
    assert await wait_for_end(page) == shared.answer_to(second)
    assert 1 == await page.locator("article.answer").count()
    await expect(page.locator(".turn .prompt")).to_have_text(re.compile(re.escape(second)))


async def test_a_cancelled_or_emptied_edit_is_discarded(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    first = shared.prompt("tokens=5")
    await ask(page, first)
    await wait_for_end(page)
    field, cancel = page.locator("#prompt"), page.get_by_role("button", name="Cancel the edit")

    async def escape() -> None:
        await field.press("Escape")

    async def empty() -> None:
        await field.press("Control+a")
        await field.press("Backspace")

    for forget in (escape, empty, cancel.click):
        await page.click(".edit")
        await expect(field).to_have_value(first)
        await forget()
        await expect(field).to_have_value("")
        await expect(cancel).to_have_count(0)
    second = shared.prompt("tokens=6")
    await ask(page, second)
    await expect(page.locator("article.answer")).to_have_count(2)
    assert await wait_for_end(page) == shared.answer_to(second)


async def test_the_widget_resends_the_conversation_if_the_server_has_deleted_it(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    first, second, third = (shared.prompt("tokens=4") for _ in range(3))
    await ask(page, first)
    answer = await wait_for_end(page)
    await ask(page, second)
    await expect(page.locator("article.answer")).to_have_count(2)
    await wait_for_end(page)
    sent = [message["content"] for message in shared.calls(second)[0].body["messages"]]
    assert [first, answer, second] == [text.strip() for text in sent]
    async with aiohttp.ClientSession(shared.server.url) as http:
        for turn in await element(page, "chat.turns"):
            async with http.delete(f"/v1/responses/{turn['responseId']}") as response:
                assert 200 == response.status
    await ask(page, third)
    await expect(page.locator("article.answer")).to_have_count(3)
    await wait_for_end(page)
    sent = [message["content"] for message in shared.calls(third)[0].body["messages"]]
    assert [first, second, third] == [text.strip() for text in sent][::2]
    assert 5 == len(sent)
