"""Tests tool calls in the widget: what is shown, approvals, and functions of the page."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import AXE, AXE_RUN, NewPage, ask, element, in_chromium, wait_for_end
from tests.paths.conftest import HOSTED, Shared

pytestmark = in_chromium

SERVER = "{ type: 'mcp', server_label: 'm', server_url: 'https://m.example' }"
FUNCTION = "{ type: 'function', name: 'add', parameters: { type: 'object' } }"
CALL = 'mode=call name={name} args={{"a":1}}'


async def opened(open_page: NewPage, url: str, tools: str) -> Page:
    page = await open_page(url)
    await element(
        page, f"Object.assign(chat, {{ model: '{HOSTED}', request: {{ tools: [{tools}] }} }})"
    )
    return page


def inputs(shared: Shared, prompt: str) -> list[list[dict[str, Any]]]:
    """Returns the new items of each model call of a conversation."""
    return [call.body["input"] for call in shared.model.calls if prompt in str(call.body["input"])]


@pytest.mark.parametrize("approve", [True, False])
async def test_the_visitor_decides_about_a_tool_that_needs_approval(
    upstreams: Shared, open_page: NewPage, approve: bool
) -> None:
    page = await opened(open_page, upstreams.server.url, SERVER)
    prompt = upstreams.prompt(CALL.format(name="m"))
    await ask(page, prompt)
    await wait_for_end(page)
    await expect(page.locator(".approval-question")).to_contain_text("may use find")
    await expect(page.locator(".approval .tool-text")).to_have_text('{"a":1}')
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN)
    await page.reload()
    await element(
        page, f"Object.assign(chat, {{ model: '{HOSTED}', request: {{ tools: [{SERVER}] }} }})"
    )
    await page.locator(".approve" if approve else ".deny").dblclick()
    await expect(page.locator("article.answer")).to_have_count(2)
    await wait_for_end(page)
    state = "allowed" if approve else "not allowed"
    await expect(page.locator(".tool-state").first).to_have_text(state)
    await expect(page.locator(".approve")).to_have_count(0)
    await expect(page.locator(".prompt")).to_have_count(1)
    asked = inputs(upstreams, prompt)
    assert 2 == len(asked)
    answer = asked[1][-1]
    assert ("mcp_approval_response", approve) == (answer["type"], answer["approve"])


async def test_the_page_answers_a_function_once(upstreams: Shared, open_page: NewPage) -> None:
    page = await opened(open_page, upstreams.server.url, FUNCTION)
    await element(
        page,
        """chat.addEventListener("tool", ({ detail }) => {
          (window.asked ??= []).push([detail.name, detail.arguments]);
          detail.respond(new Promise(done => setTimeout(() => done({ sum: 2 }), 50)));
          detail.respond("twice");
        })""",
    )
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.wait_for_timeout(500)  # the module that draws turns also asks the page
    prompt = upstreams.prompt(CALL.format(name="add"))
    await ask(page, prompt)
    await expect(page.locator("article.answer")).to_have_count(2)
    assert '{"sum":2}' in await wait_for_end(page)
    assert [["add", '{"a":1}']] == await page.evaluate("asked")
    await expect(page.locator(".tool-state")).to_have_text("done")
    await page.locator(".tool summary").click()
    await expect(page.locator(".tool-text")).to_have_text(['{"a":1}', '{"sum":2}'])
    assert 2 == len(inputs(upstreams, prompt))


async def test_after_a_reload_the_page_is_asked_only_when_the_visitor_continues(
    upstreams: Shared, open_page: NewPage
) -> None:
    page = await opened(open_page, upstreams.server.url, FUNCTION)
    prompt = upstreams.prompt(CALL.format(name="add"))
    await ask(page, prompt)
    await wait_for_end(page)
    await page.reload()
    await element(
        page,
        """chat.addEventListener("tool", ({ detail }) => {
          window.asked = (window.asked ?? 0) + 1;
          detail.respond(Promise.reject(new Error("no luck")));
        })""",
    )
    await element(
        page, f"Object.assign(chat, {{ model: '{HOSTED}', request: {{ tools: [{FUNCTION}] }} }})"
    )
    await expect(page.locator(".tools .again")).to_have_text("Continue")
    assert await page.evaluate("window.asked === undefined")
    await page.click(".tools .again")
    await expect(page.locator("article.answer")).to_have_count(2)
    assert "Error: no luck" in await wait_for_end(page)
    assert 1 == await page.evaluate("asked")


async def test_tools_of_the_page_run_with_their_arguments(
    upstreams: Shared, open_page: NewPage
) -> None:
    page = await opened(open_page, upstreams.server.url, "")
    await element(
        page,
        f"""chat.tools = [
          {{ ...{FUNCTION}, run: async ({{ a }}, {{ name }}) => `${{name}} ${{a + 1}}` }}
        ]""",
    )
    await element(page, "chat.addEventListener('tool', () => (window.asked = true))")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await ask(page, upstreams.prompt(CALL.format(name="add")))
    await expect(page.locator("article.answer")).to_have_count(2)
    assert "add 2" in await wait_for_end(page)
    await element(page, f"(chat.tools = [{{ ...{FUNCTION}, run: () => missing() }}], chat.clear())")
    await ask(page, upstreams.prompt(CALL.format(name="add")))
    await expect(page.locator("article.answer")).to_have_count(2)
    assert "Error: missing is not defined" in await wait_for_end(page)
    assert await page.evaluate("window.asked === undefined")


@pytest.mark.parametrize("other", [pytest.param("approve", marks=pytest.mark.heavy), "deny"])
async def test_two_tabs_that_decide_about_a_tool_at_once_show_one_decision(
    upstreams: Shared, open_page: NewPage, other: str
) -> None:
    one = await opened(open_page, upstreams.server.url, SERVER)
    prompt = upstreams.prompt(CALL.format(name="m"))
    await ask(one, prompt)
    await wait_for_end(one)
    tabs = [one, await open_page(upstreams.server.url, one.context)]
    await element(
        tabs[1], f"Object.assign(chat, {{ model: '{HOSTED}', request: {{ tools: [{SERVER}] }} }})"
    )
    await expect(tabs[1].locator(".approve")).to_be_visible()
    at = await one.evaluate("Date.now() + 1000")
    await asyncio.gather(
        *(
            tab.evaluate(
                """([at, name]) => {
                  const { shadowRoot } = document.querySelector("holdline-chat");
                  while (Date.now() < at);
                  shadowRoot.querySelector(`.${name}`).click();
                }""",
                [at, name],
            )
            for tab, name in zip(tabs, ("approve", other), strict=True)
        )
    )
    for tab in tabs:
        await expect(tab.locator("article.answer")).to_have_count(2)
        await wait_for_end(tab)
        await expect(tab.locator("article.answer")).to_have_count(2)
    asked = inputs(upstreams, prompt)
    assert 2 == len(asked)
    state = "allowed" if asked[1][-1]["approve"] else "not allowed"
    await tabs[1].reload()
    for tab in tabs:
        await expect(tab.locator(".tool-state").first).to_have_text(state)
        assert await wait_for_end(tab) == await wait_for_end(one)
