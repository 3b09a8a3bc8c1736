"""Tests the widget's token provider with a small simulated server that requires tokens."""

from __future__ import annotations

from playwright.async_api import expect

from tests.browser import NewPage, ServeApp, ask, element, in_chromium, wait_for_end, wait_for_text
from tests.paths.token_server import TokenServer, token, visit
from tests.system import wait_until

pytestmark = in_chromium


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
    await wait_until(lambda: guarded.tokens_received == ["good"])


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
