"""Tests the widget's token provider with a small simulated server that requires tokens."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from playwright.async_api import Page, expect

from server.http.static import Pages
from tests.browser import NewPage, ServeApp, ask, element, in_chromium, wait_for_end, wait_for_text
from tests.system import EXTENSIONS, wait_until

pytestmark = in_chromium


@dataclass
class TokenServer:
    """Answers clients with a valid token and closes all other sockets with 4401."""

    valid: set[str] = field(default_factory=set)
    tokens_received: list[str] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    asked: int = 0
    prompts: list[tuple[str, str]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application()
        Pages().add_to(app)
        app.router.add_get("/v1/responses", self._socket)
        return app

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=EXTENSIONS)
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "holdline:welcome", "limits": {}})
        known, shown = False, ""
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            asked = json.loads(message.data)
            if asked["type"] == "holdline:auth":
                self.tokens_received.append(asked["token"])
                shown, known = asked["token"], asked["token"] in self.valid
            if not known:
                await socket.close(code=4401, message=b"the token is not good")
            elif asked["type"] == "holdline:ping":
                await socket.send_json({"type": "holdline:pong", "id": asked["id"]})
            elif asked["type"] in {"response.create", "holdline:resume"}:
                if "input" in asked:
                    self.prompts.append((shown, asked["input"]))
                await self._answer(socket, asked)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        """Replies to a resume with the complete log, but to a new prompt with its beginning."""
        response = {"id": "resp_1", "status": "in_progress", "model": "m"}
        if asked["type"] == "response.create":
            self.asked += 1
            self.log = [
                {"type": "response.created", "response": response},
                {"type": "response.output_text.delta", "delta": "Half, ", "item_id": "m_1"},
            ]
        else:
            part = {"type": "output_text", "text": "Half, and whole."}
            output = [{"type": "message", "id": "m_1", "content": [part]}]
            end = {**response, "status": "completed", "output": output}
            self.log.append({"type": "response.completed", "response": end})
        for number, event in enumerate(self.log):
            if number > asked.get("starting_after", -1):
                place = {"output_index": 0, "content_index": 0, "stream_id": asked["stream_id"]}
                await socket.send_json({**place, "sequence_number": number, **event})


def token(number: int, seconds: int, subject: str = "ÿ") -> str:
    """Returns a JSON Web Token with an invalid signature; the widget only reads the claims."""
    claims = json.dumps({"iat": 1_000, "exp": 1_000 + seconds, "jti": f"{number}", "sub": subject})
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.s"


async def visit(url: str, open_page: NewPage, tokens: list[str]) -> Page:
    """Opens a page whose token provider returns the given tokens in order."""
    page = await open_page(f"{url}/docs/empty")
    await page.evaluate(
        """tokens => {
          window.fetched = 0;
          const chat = document.createElement("holdline-chat");
          chat.heading = "Set before";
          chat.tokenProvider = async () => tokens[Math.min(fetched++, tokens.length - 1)];
          document.body.replaceChildren(chat);
          return import("/widget.js").then(() => null);
        }""",
        tokens,
    )
    await expect(page.locator("#title")).to_have_text("Set before")
    return page


async def test_a_token_is_renewed_on_the_open_socket_before_it_expires(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    tokens = [token(number, 2) for number in range(4)]
    guarded = TokenServer(valid=set(tokens))
    page = await visit(await serve_app(guarded.app()), open_page, tokens)
    await wait_until(lambda: len(guarded.tokens_received) >= 3)
    assert tokens[:3] == guarded.tokens_received[:3]
    assert 1 == len(guarded.sockets)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")


async def test_an_expired_token_is_replaced_and_the_answer_continues(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    guarded = TokenServer(valid={"old"})
    page = await visit(await serve_app(guarded.app()), open_page, ["old", "new"])
    await ask(page, "go")
    await wait_for_text(page, "Half, ")
    guarded.valid = {"new"}
    # If a token is rejected soon after it was fetched, the widget waits before it fetches another.
    # Advancing the clock makes the token appear older.
    await page.evaluate("() => { const now = Date.now; Date.now = () => now() + 60_000; }")
    await guarded.sockets[0].close(code=4401, message=b"the token has ended")
    assert "Half, and whole." == await wait_for_end(page)
    assert ["old", "new"] == guarded.tokens_received
    assert 1 == guarded.asked


async def test_a_rejected_token_is_not_fetched_repeatedly(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    guarded = TokenServer()
    page = await visit(await serve_app(guarded.app()), open_page, ["bad"])
    await expect(page.locator("#banner")).to_have_text("The server requires credentials.")
    assert 1 == len(guarded.sockets)
    assert 1 == await page.evaluate("fetched")
    assert "closed" == await element(page, "chat.state")


async def test_a_widget_without_a_token_provider_stops_until_the_page_sets_one(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    guarded = TokenServer(valid={"good"})
    page = await open_page(f"{await serve_app(guarded.app())}/docs/empty")
    await page.evaluate(
        """() => {
          document.body.replaceChildren(document.createElement("holdline-chat"));
          return import("/widget.js").then(() => null);
        }"""
    )
    await expect(page.locator("#banner")).to_have_text("The server requires credentials.")
    assert "closed" == await element(page, "chat.state")
    assert 1 == len(guarded.sockets)
    await page.evaluate("document.querySelector('holdline-chat').tokenProvider = () => 'good'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    assert ["good"] == guarded.tokens_received


async def test_a_widget_whose_token_provider_fails_asks_it_again(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """The widget keeps its socket until the server closes it, and then fetches a token again."""
    guarded = TokenServer(valid={"good"})
    page = await open_page(f"{await serve_app(guarded.app())}/docs/empty")
    await page.evaluate(
        """() => {
          console.error = () => {};
          const chat = document.createElement("holdline-chat");
          let calls = 0;
          chat.tokenProvider = async () => {
            if (calls++ === 0) throw new Error("offline");
            return "good";
          };
          document.body.replaceChildren(chat);
          return import("/widget.js").then(() => null);
        }"""
    )
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.wait_for_timeout(3_000)
    assert [False] == [socket.closed for socket in guarded.sockets]
    await guarded.sockets[0].close(code=4408, message=b"no credential was sent in time")
    await wait_until(lambda: guarded.tokens_received == ["good"])
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")


async def test_a_visitor_can_sign_in_with_a_token_on_the_front_page(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """A prompt without a token fails, a wrong token is reported, and a valid token connects."""
    guarded = TokenServer(valid={"good"})
    page = await open_page(await serve_app(guarded.app()))
    wait_for_tokens = page.locator(".sign-in p")
    await expect(wait_for_tokens).to_have_text("This server requires a token or an API key.")
    await page.evaluate(
        """() => {
          window.told = [];
          const chat = document.querySelector("holdline-chat");
          for (const name of ["answer", "error"]) {
            chat.addEventListener(name, ({ detail }) => told.push(`${name} ${detail.status}`));
          }
        }"""
    )
    await ask(page, "too early")
    await wait_for_end(page, "failed")
    await expect(page.locator("article.answer .note")).to_have_text(
        "Not answered: the server requires credentials. Sign in and ask again."
    )
    assert ["answer failed", "error failed"] == await page.evaluate("told")
    assert ["failed"] == [turn["status"] for turn in await element(page, "chat.turns")]
    field, button = page.get_by_label("Token"), page.get_by_role("button", name="Sign in")
    await field.fill("wrong")
    await button.click()
    await expect(wait_for_tokens).to_have_text("The server does not accept this token.")
    await field.fill("good")
    await button.click()
    await expect(page.locator(".sign-in")).to_be_hidden()
    await ask(page, "in time")
    await wait_for_text(page, "Half, ")
    await page.reload()
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    assert [("good", "in time")] == guarded.prompts


SIGN_IN = """async token => {
  const chat = document.querySelector("holdline-chat");
  sessionStorage.setItem("token", token);
  chat.tokenProvider = async () => sessionStorage.getItem("token");
}"""


async def test_conversations_of_two_subjects_in_one_browser_stay_separate(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """Covers one and two tabs, reloads, an unsent prompt and a sign-out."""
    anna, again, ben = token(1, 900, "anna"), token(2, 900, "anna"), token(3, 900, "ben")
    guarded = TokenServer(valid={anna, again, ben})
    url = await serve_app(guarded.app())
    page = await open_page(url)
    prompts, state = page.locator(".turn .prompt"), page.locator("#state")
    await page.evaluate(SIGN_IN, anna)
    await wait_until(lambda: guarded.tokens_received == [anna])
    await ask(page, "hers")
    await wait_for_text(page, "Half, ")
    # The same subject keeps its socket and its view.
    await page.evaluate(SIGN_IN, again)
    await wait_until(lambda: guarded.tokens_received == [anna, again])
    await expect(prompts).to_have_text(["You asked: hers"])

    await page.context.set_offline(offline=True)
    await page.evaluate(
        "WebSocket.prototype.send = () => {}"
    )  # the connection is dead, but neither side has closed it
    await element(page, "chat.stop()")
    await element(page, "chat.clear()")
    await element(page, "chat.send('unsent')")
    await page.fill("#prompt", "her draft")
    await page.context.set_offline(offline=False)
    await page.evaluate(SIGN_IN, ben)
    await expect(prompts).to_have_count(0)
    await expect(page.locator("#prompt")).to_have_value("")
    assert [] == await element(page, "chat.turns")
    await page.reload()
    await page.evaluate(SIGN_IN, ben)
    await expect(state).to_have_attribute("data-state", "open")
    await ask(page, "his")
    await wait_for_text(page, "Half, ")

    other = await open_page(url, page.context)
    # The page sends anna's unsent prompt with her token.
    await other.evaluate(SIGN_IN, anna)
    await expect(other.locator(".turn .prompt")).to_have_text(["You asked: unsent"])
    await wait_until(lambda: len(guarded.prompts) == 3)
    assert [(anna, "hers"), (ben, "his"), (anna, "unsent")] == guarded.prompts
    await expect(prompts).to_have_text(["You asked: his"])

    await other.evaluate(
        """() => {
          const chat = document.querySelector("holdline-chat");
          chat.addEventListener("logout", () => (window.loggedOut = true));
          chat.logout();
        }"""
    )
    await expect(other.locator(".turn")).to_have_count(0)
    assert await other.evaluate("loggedOut")
    assert await element(other, "chat.tokenProvider") is None
    kept = "Object.keys(localStorage).map(key => key.match(/anna|ben/)?.[0])"
    assert ["ben"] == await other.evaluate(kept)


async def test_a_widget_without_a_user_opens_no_socket_and_reports_no_error(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """The visitor signs in, signs out, sends a prompt without a user, and signs in again."""
    anna = token(1, 900, "anna")
    guarded = TokenServer(valid={anna})
    page = await open_page(f"{await serve_app(guarded.app())}/docs/empty")
    await page.evaluate(
        """() => {
          window.events = [];
          const chat = document.createElement("holdline-chat");
          chat.addEventListener("state", ({ detail }) => events.push(detail.state));
          chat.addEventListener("error", ({ detail }) => events.push(`error ${detail.status}`));
          chat.tokenProvider = () => null;
          document.body.replaceChildren(chat);
          return import("/widget.js").then(() => null);
        }"""
    )
    state, banner = page.locator("#state"), page.locator("#banner")
    await expect(state).to_have_attribute("data-state", "closed")
    assert 0 == len(guarded.sockets)
    await page.evaluate(SIGN_IN, anna)
    await expect(state).to_have_attribute("data-state", "open")
    await element(page, "chat.logout()")
    await expect(state).to_have_attribute("data-state", "closed")
    await expect(banner).to_be_hidden()
    assert 1 == len(guarded.sockets)
    assert ["closed", "connecting", "open", "closed"] == (await page.evaluate("events"))[:4]
    assert {"closed"} == set((await page.evaluate("events"))[4:])
    assert "closed" == await element(page, "chat.state")

    await ask(page, "signed out")
    await wait_for_end(page, "failed")
    assert [anna] == guarded.tokens_received
    await page.evaluate(SIGN_IN, anna)
    await expect(state).to_have_attribute("data-state", "open")
    assert [anna, anna] == guarded.tokens_received


async def test_a_logout_reaches_other_tabs_and_a_new_subject_ends_a_stream(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    anna, short, ben = token(1, 900, "anna"), token(2, 2, "anna"), token(3, 900, "ben")
    guarded = TokenServer(valid={anna, short, ben})
    url = await serve_app(guarded.app())
    page = await open_page(url)
    prompts = page.locator(".turn .prompt")
    kept = "Object.keys(localStorage).map(key => key.match(/anna|ben/)?.[0])"
    await page.evaluate(SIGN_IN, short)
    await wait_until(lambda: guarded.tokens_received == [short])
    await ask(page, "hers")
    await wait_for_text(page, "Half, ")

    hers = guarded.sockets[-1]
    # While anna's answer streams, her token is replaced by another user's token.
    await page.evaluate("token => sessionStorage.setItem('token', token)", ben)
    await wait_until(lambda: ben in guarded.tokens_received)
    await expect(prompts).to_have_count(0)
    await wait_until(lambda: hers.closed)
    assert [] == await element(page, "chat.turns")
    assert ["anna"] == await page.evaluate(kept)

    # anna signs in again, in two tabs, and the answer continues in both.
    other = await open_page(url, page.context)
    for tab in (page, other):
        await tab.evaluate(SIGN_IN, anna)
        await expect(tab.locator(".turn .prompt")).to_have_text(["You asked: hers"])
        assert "Half, and whole." == await wait_for_end(tab)
    await ask(page, "hers, too")
    await wait_for_text(page, "Half, ")
    await expect(other.locator(".turn")).to_have_count(2)
    await element(other, "chat.logout()")
    await expect(prompts).to_have_count(0)
    assert [] == await element(page, "chat.turns")
    for tab in (page, other):
        assert [] == await tab.evaluate(kept)
        await tab.evaluate(SIGN_IN, ben)
        await expect(tab.locator("#state")).to_have_attribute("data-state", "open")
        await expect(tab.locator(".turn")).to_have_count(0)
    # Either tab may have sent the prompt, because both use the same idempotency key.
    assert {(short, "hers"), (anna, "hers, too")} == set(guarded.prompts)


async def test_conversations_are_separate_by_user_on_a_page_without_tokens(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """Conversations that were stored without a user are not shown to any user."""
    page = await open_page(f"{await serve_app(TokenServer().app())}/docs/empty")
    prompts = """async user => {
      const turn = { prompt: "old", key: "k", request: {}, status: "completed", text: "x" };
      const place = `holdline.${location.host}.conversation`;
      localStorage.setItem(place, JSON.stringify([turn]));
      await import("/widget.js");
      const chat =
        document.querySelector("holdline-chat") ?? document.createElement("holdline-chat");
      chat.user = user;
      document.body.append(chat);
      await new Promise(done => setTimeout(done));
      const before = chat.turns.map(({ prompt }) => prompt);
      chat.send(`of ${user}`);
      return before;
    }"""
    assert [[], [], ["of a"]] == [await page.evaluate(prompts, user) for user in ("a", "b", "a")]


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
