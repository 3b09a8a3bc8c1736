"""The token provider against a server that demands tokens: a small one that says what is needed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from playwright.async_api import Page, expect

from server.http.static import Pages
from tests.browser import NewPage, ServeApp, ask, element, ended, in_chromium, writing
from tests.system import wait_until

pytestmark = in_chromium


@dataclass
class Guarded:
    """Answers who brings a good token; closes with 4401 who brings another one, or none."""

    good: set[str] = field(default_factory=set)
    brought: list[str] = field(default_factory=list)
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
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        await socket.send_json({"type": "holdline:welcome", "limits": {}})
        known, shown = False, ""
        async for message in socket:
            if message.type != WSMsgType.TEXT:
                break
            asked = json.loads(message.data)
            if asked["type"] == "holdline:auth":
                self.brought.append(asked["token"])
                shown, known = asked["token"], asked["token"] in self.good
            if asked["type"] == "holdline:ping":
                await socket.send_json({"type": "holdline:pong", "id": asked["id"]})
            elif not known:
                await socket.close(code=4401, message=b"the token is not good")
            elif asked["type"] in {"response.create", "holdline:resume"}:
                if "input" in asked:
                    self.prompts.append((shown, asked["input"]))
                await self._answer(socket, asked)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, asked: dict[str, Any]) -> None:
        """The whole of the log for who resumes, its beginning for who asks."""
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
    """A JSON Web Token, as far as a client looks at it."""
    claims = json.dumps({"iat": 1_000, "exp": 1_000 + seconds, "jti": f"{number}", "sub": subject})
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.s"


async def visit(url: str, open_page: NewPage, tokens: list[str]) -> Page:
    """A page whose provider gives these tokens, one after the other."""
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


async def test_a_token_is_renewed_in_band_before_it_ends(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    tokens = [token(number, 2) for number in range(4)]
    guarded = Guarded(good=set(tokens))
    page = await visit(await serve_app(guarded.app()), open_page, tokens)
    await wait_until(lambda: len(guarded.brought) >= 3)
    assert tokens[:3] == guarded.brought[:3]
    assert 1 == len(guarded.sockets)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")


async def test_a_token_that_has_ended_is_replaced_and_the_answer_goes_on(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    guarded = Guarded(good={"old"})
    page = await visit(await serve_app(guarded.app()), open_page, ["old", "new"])
    await ask(page, "go")
    await writing(page, "Half, ")
    guarded.good = {"new"}
    # A token that is refused at once is not fetched again for a while; this one has served.
    await page.evaluate("() => { const now = Date.now; Date.now = () => now() + 60_000; }")
    await guarded.sockets[0].close(code=4401, message=b"the token has ended")
    assert "Half, and whole." == await ended(page)
    assert ["old", "new"] == guarded.brought
    assert 1 == guarded.asked


async def test_a_token_that_is_no_good_is_not_fetched_over_and_over(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    guarded = Guarded()
    page = await visit(await serve_app(guarded.app()), open_page, ["bad"])
    await expect(page.locator("#banner")).to_have_text("The server asks for credentials.")
    assert 1 == len(guarded.sockets)
    assert 1 == await page.evaluate("fetched")
    assert "closed" == await element(page, "chat.state")


async def test_a_prompt_is_refused_until_a_token_is_given_on_the_page(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """The prompt ends as failed; a wrong token is refused by name; a good one connects."""
    guarded = Guarded(good={"good"})
    page = await open_page(await serve_app(guarded.app()))
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
    await ended(page, "failed")
    await expect(page.locator("article.answer .note")).to_have_text(
        "Not answered: the server asks for credentials. Sign in, and ask again."
    )
    assert ["error closed", "answer failed", "error failed"] == await page.evaluate("told")
    assert ["failed"] == [turn["status"] for turn in await element(page, "chat.turns")]
    wait_for_tokens = page.locator(".sign-in p")
    await expect(wait_for_tokens).to_have_text("This server demands a token or an API key.")
    field, button = page.get_by_label("Token"), page.get_by_role("button", name="Sign in")
    await field.fill("wrong")
    await button.click()
    await expect(wait_for_tokens).to_have_text("The server does not accept this token.")
    await field.fill("good")
    await button.click()
    await expect(page.locator(".sign-in")).to_be_hidden()
    await ask(page, "in time")
    await writing(page, "Half, ")
    await page.reload()
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    assert [("good", "in time")] == guarded.prompts


SIGN_IN = """async token => {
  const chat = document.querySelector("holdline-chat");
  sessionStorage.setItem("token", token);
  chat.tokenProvider = async () => sessionStorage.getItem("token");
}"""


async def test_two_subjects_of_one_browser_never_meet(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """In one tab and in two, through reloads, with an unsent prompt, and after a sign-out."""
    anna, again, ben = token(1, 900, "anna"), token(2, 900, "anna"), token(3, 900, "ben")
    guarded = Guarded(good={anna, again, ben})
    url = await serve_app(guarded.app())
    page = await open_page(url)
    prompts, state = page.locator(".turn .prompt"), page.locator("#state")
    await page.evaluate(SIGN_IN, anna)
    await wait_until(lambda: guarded.brought == [anna])
    await ask(page, "hers")
    await writing(page, "Half, ")
    await page.evaluate(SIGN_IN, again)  # the same subject: the socket and the view stay
    await wait_until(lambda: guarded.brought == [anna, again])
    await expect(prompts).to_have_text(["You asked: hers"])

    await page.context.set_offline(offline=True)
    await page.evaluate("WebSocket.prototype.send = () => {}")  # a line that is dead, not closed
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
    await writing(page, "Half, ")

    other = await open_page(url, page.context)
    await other.evaluate(SIGN_IN, anna)  # her unsent prompt is there, and goes in her name
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


async def test_a_page_without_tokens_names_its_user(
    open_page: NewPage, serve_app: ServeApp
) -> None:
    """And what was stored under a name without an owner is nobody's."""
    page = await open_page(f"{await serve_app(Guarded().app())}/docs/empty")
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
