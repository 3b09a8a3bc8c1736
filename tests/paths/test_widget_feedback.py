"""Tests how visitors rate answers in the widget, and what the page learns of it."""

from __future__ import annotations

import json

from aiohttp import ClientSession, web
from playwright.async_api import Page, Route, expect

from tests.browser import (
    AXE,
    AXE_RUN,
    NewPage,
    ServeApp,
    ask,
    element,
    in_chromium,
    wait_for_end,
    wait_for_text,
)
from tests.paths.conftest import Shared
from tests.paths.token_server import TokenServer, token, visit
from tests.system import wait_until

pytestmark = in_chromium


async def stored(shared: Shared, id_: str) -> tuple[str | None, str]:
    """Returns the feedback on a response that the server has."""
    async with ClientSession() as http, http.get(f"{shared.server.url}{path(id_)}") as answer:
        feedback = await answer.json()
        return feedback["rating"], feedback["comment"]


def path(id_: str) -> str:
    return f"/v1/responses/{id_}/feedback"


async def answered(shared: Shared, page: Page) -> str:
    """Asks, waits for the answer and returns the id of the response."""
    await ask(page, shared.prompt("tokens=5"))
    await wait_for_end(page)
    await element(page, "chat.feedback = true")
    id_: str = (await element(page, "chat.turns"))[-1]["responseId"]
    return id_


async def test_feedback_waits_for_the_connection_also_over_a_reload(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    id_ = await answered(shared, page)
    sent: list[str] = []

    async def cut(route: Route) -> None:
        sent.append(route.request.url)
        await route.abort()

    await page.route(f"**{path(id_)}", cut)
    await page.locator(".thumb.up").last.click()
    await page.locator(".thumb.down").last.click()
    await page.locator(".feedback-comment").last.fill("Too short.")
    await page.get_by_role("button", name="Send the comment").click()
    await wait_until(lambda: sent)
    assert (None, "") == await stored(shared, id_)
    await page.unroute(f"**{path(id_)}")
    await page.reload()
    await element(page, "chat.feedback = true")

    async def arrived() -> bool:
        return await stored(shared, id_) == ("down", "Too short.")

    await wait_until(arrived)
    await page.wait_for_function("Object.keys(localStorage).every(name => !name.endsWith('!'))")


async def test_the_widget_says_that_the_server_has_refused_feedback(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    id_ = await answered(shared, page)
    url = f"{shared.server.url}/v1/responses/{id_}"
    async with ClientSession() as http, http.delete(url) as answer:
        assert 200 == answer.status
    await page.locator(".thumb.up").last.click()
    thanks = page.locator(".feedback-thanks").last
    await expect(thanks).to_have_text("Your feedback could not be saved.")
    await page.wait_for_function("Object.keys(localStorage).every(name => !name.endsWith('!'))")


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

    async def arrived() -> bool:
        return await stored(shared, id_) == ("down", "too short")

    await wait_until(arrived)
    await page.reload()
    await element(page, "chat.feedback = true")
    await expect(down).to_have_attribute("aria-pressed", "true")
    await element(
        page, "chat.addEventListener('feedback', ({ detail }) => window.last = detail.rating)"
    )
    await down.click()  # takes the rating back
    await expect(down).to_have_attribute("aria-pressed", "false")
    assert await page.evaluate("window.last === null")


async def test_feedback_is_sent_with_the_token_of_its_user_only(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    anna, ben = (token(1, 1_000, subject) for subject in ("anna", "ben"))
    guarded, received = TokenServer(valid={anna, ben}), list[str | None]()

    async def feedback(request: web.Request) -> web.Response:
        received.append(request.headers.get("Authorization"))
        return web.json_response({}, status=503 if len(received) == 1 else 200)

    app = guarded.app()
    app.router.add_post("/v1/responses/resp_1/feedback", feedback)
    page = await visit(await serve_app(app), open_page, [anna])
    await ask(page, "go")
    await wait_for_text(page, "Half, ")
    await guarded.sockets[0].close()
    await wait_for_end(page)
    await element(page, "chat.feedback = true")
    await page.locator(".thumb.up").click()
    await wait_until(lambda: received)
    await element(page, f"chat.tokenProvider = async () => {json.dumps(ben)}")
    await wait_until(lambda: ben == guarded.tokens_received[-1])
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    assert 1 == len(received)
    await element(page, f"chat.tokenProvider = async () => {json.dumps(anna)}")
    await wait_until(lambda: len(received) == 2)
    assert [f"Bearer {anna}"] * 2 == received
