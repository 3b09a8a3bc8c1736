"""Tests the widget's interface for pages: embedding, methods, events, properties and languages."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import expect

from tests.browser import (
    IN_PAGE,
    MARKDOWN,
    NewPage,
    ServeSite,
    Watch,
    ask,
    element,
    in_chromium,
    wait_for_end,
    wait_for_text,
)
from tests.paths.conftest import Shared
from tests.system import Server, System, free_port, wait_until

pytestmark = in_chromium

STRICT = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
STREAM = (IN_PAGE / "stream.js").read_text()


def embedding(server: Server, attributes: str = "", script: str = "") -> str:
    return f"""<!doctype html><html lang="en"><title>A shop</title><main><h1>A shop</h1>
      <script type="module" src="{server.url}/widget.js"></script>
      <holdline-chat {attributes}></holdline-chat>{script}</main></html>"""


@pytest.mark.heavy
async def test_the_widget_works_on_an_allowed_site(
    shared: Shared, beside: System, open_page: NewPage, serve_site: ServeSite
) -> None:
    port = free_port()
    server = await beside.server(HOLDLINE_ALLOWED_ORIGINS=f"http://127.0.0.1:{port}")
    origin = await serve_site(embedding(server, 'mode="floating"'), port)
    page = await open_page(origin, None, server.url.split("/")[2])
    await page.click(".launcher")
    prompt = shared.prompt("tokens=30")
    await ask(page, prompt)
    assert await wait_for_end(page) == shared.answer_to(prompt)


async def test_on_a_disallowed_site_the_console_names_the_setting(
    shared: Shared, open_page: NewPage, serve_site: ServeSite
) -> None:
    listen = """<script>
      window.events = [];
      const chat = document.querySelector("holdline-chat");
      chat.addEventListener("state", ({ detail }) => events.push(detail.state));
      chat.addEventListener("error", ({ detail }) => events.push(`error ${detail.status}`));
    </script>"""
    origin = await serve_site(embedding(shared.server, script=listen))
    page = await open_page(origin, None, shared.server.url.split("/")[2])
    await expect(page.locator("#banner")).to_have_text("The server does not allow this page.")
    assert ["connecting", "closed", "error refused"] == await page.evaluate("events")
    assert "closed" == await element(page, "chat.state")
    watch: Watch = page.watch  # type: ignore[attr-defined]
    messages = [text for text in watch.wrong if text.startswith("Holdline:")]
    assert [f"HOLDLINE_ALLOWED_ORIGINS={origin}"] == [text.split()[-1] for text in messages]
    watch.wrong.clear()


async def test_the_widget_works_under_a_strict_content_security_policy(
    shared: Shared, beside: System, open_page: NewPage
) -> None:
    """The server's own policy is at least as strict, and a policy violation fails any test."""
    page = await open_page(shared.server.url)
    policy = await page.evaluate(
        "fetch('/').then(response => response.headers.get('content-security-policy'))"
    )
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    for part in STRICT.split(";"):
        name, *values = part.split()
        assert set(directives[name]) <= {*values, "data:"}
    await ask(page, shared.prompt("say=```python\\n_x_=_1\\n```"))
    await wait_for_end(page)


PUBLIC = "[chat.isOpen, chat.state, chat.turns]"


async def test_public_methods_events_and_the_launcher_work(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.evaluate(
        """() => {
          window.told = [];
          const chat = document.querySelector("holdline-chat");
          for (const name of ["open", "close", "message", "answer", "error", "state"]) {
            chat.addEventListener(name, ({ detail }) =>
              told.push([name, detail?.status ?? detail?.state ?? null]));
          }
          chat.mode = "floating";
        }"""
    )
    launcher = page.locator(".launcher")
    await expect(launcher).to_be_visible()
    await expect(page.locator(".panel")).to_be_hidden()
    assert [["state", "closed"]] == await page.evaluate("told")
    assert [False, "closed", []] == await element(page, PUBLIC)
    await element(page, "chat.open()")
    await expect(page.locator("#prompt")).to_be_focused()
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    assert [True, "open", []] == await element(page, PUBLIC)
    prompt = shared.prompt("mode=slow tokens=150 pace=0.02")
    assert await element(page, f"chat.send({json.dumps(prompt)})")
    assert not await element(page, "chat.send('while one is under way')")
    await wait_for_text(page)
    is_open, state, (turn,) = await element(page, PUBLIC)
    assert (True, "open") == (is_open, state)
    waiting = {"prompt": prompt, "status": "sending", "text": "", "responseId": turn["responseId"]}
    assert waiting == turn
    assert turn["responseId"].startswith("resp_")
    await page.keyboard.press("Escape")
    await expect(launcher).to_be_focused()
    assert not await element(page, "chat.isOpen")
    await expect(launcher.locator(".badge")).to_have_text("1", timeout=10_000)
    await expect(launcher).to_have_accessible_name("Open the chat, 1 unread")
    await launcher.click()
    await expect(launcher.locator(".badge")).to_be_hidden()
    assert await wait_for_end(page) == shared.answer_to(prompt)
    done = {**turn, "status": "completed", "text": shared.answer_to(prompt)}
    turns = await element(page, "chat.turns")
    assert [done] == [{**turn, "text": turn["text"].strip()} for turn in turns]
    await element(page, f"chat.send({json.dumps(shared.prompt('mode=slow tokens=900 pace=0.02'))})")
    await wait_for_text(page)
    await element(page, "chat.stop()")
    await wait_for_end(page, "cancelled")
    await element(page, f"chat.send({json.dumps(shared.prompt('mode=400'))})")
    await wait_for_end(page, "failed")
    await element(page, "chat.clear()")
    await expect(page.locator("article.answer")).to_have_count(0)
    names = [tuple(event) for event in await page.evaluate("told")]
    for expected in [
        ("open", None),
        ("close", None),
        ("state", "open"),
        ("message", "sending"),
        ("answer", "completed"),
        ("answer", "cancelled"),
        ("error", "failed"),
    ]:
        assert expected in names


# Returns the largest distance from the end in the frames of one second. On a busy machine there are
# few frames, so a wait for a number of frames could take longer than the test.
FAR = """async () => {
  const log = document.querySelector("holdline-chat").shadowRoot.querySelector(".log");
  let most = 0;
  const end = performance.now() + 1_000;
  do {
    await new Promise(done => requestAnimationFrame(done));
    most = Math.max(most, log.scrollHeight - log.scrollTop - log.clientHeight);
  } while (performance.now() < end);
  return Math.round(most);
}"""


async def test_the_view_follows_the_end_unless_the_reader_has_scrolled_up(
    shared: Shared, open_page: NewPage
) -> None:
    """Also covers a single update that is taller than the panel."""
    page = await open_page(shared.server.url)
    await page.evaluate(STREAM, [MARKDOWN["chat"] * 20, 2.0])
    await element(page, "chat.conversation = 'long'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await element(page, "chat.send('go')")
    await wait_for_text(page, "A heading")

    async def at_the_end() -> bool:
        return bool(await page.evaluate(FAR) <= 1)

    await wait_until(at_the_end)  # blocks get their real height one frame after they appear
    await page.locator(".log").hover()
    await page.mouse.wheel(0, -60)
    await expect(page.locator(".latest")).to_be_visible()
    await wait_for_end(page)
    assert await page.evaluate(FAR) > 30
    await page.locator(".latest").click()
    await expect(page.locator(".latest")).to_be_hidden()
    await wait_until(at_the_end)


async def test_properties_of_the_widget_change_its_texts_and_requests(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        """() => {
          const chat = document.querySelector("holdline-chat");
          chat.heading = "Shop help";
          chat.greeting = "Welcome.";
          chat.placeholder = "Say it";
          chat.suggestions = ["One", "Two"];
          chat.model = "other-model";
          chat.instructions = "Be brief.";
          chat.request = { temperature: 0.5 };
          chat.conversation = "apart";
        }"""
    )
    await expect(page.locator("#title")).to_have_text("Shop help")
    await expect(page.locator(".greeting")).to_have_text("Welcome.")
    await expect(page.locator(".suggestion")).to_have_text(["One", "Two"])
    assert ["One", "Two"] == await element(page, "chat.suggestions")
    await expect(page.locator("#prompt")).to_have_attribute("placeholder", "Say it")
    prompt = shared.prompt("tokens=3")
    await ask(page, prompt)
    await wait_for_end(page)
    body = shared.calls(prompt)[0].body
    assert ("other-model", 0.5) == (body["model"], body["temperature"])
    assert "Be brief." == body["messages"][0]["content"]
    await element(page, "chat.conversation = null")
    await expect(page.locator("article.answer")).to_have_count(0)


async def test_the_token_of_the_token_provider_is_sent(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(f"{shared.server.url}/livez")
    await page.add_init_script(
        """window.sent = [];
        const send = WebSocket.prototype.send;
        WebSocket.prototype.send = function (data) {
          sent.push(JSON.parse(data));
          send.call(this, data);
        };
        document.addEventListener("DOMContentLoaded", () => {
          let tokens = 0;
          document.querySelector("holdline-chat").tokenProvider = async () => `token-${++tokens}`;
        });"""
    )
    await page.goto(shared.server.url)
    await element(page, "chat.setAttribute('conversation', 'with a token')")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.wait_for_function("sent.some(({ type }) => type === 'holdline:auth')")
    tokens = await page.evaluate("sent.filter(m => m.type === 'holdline:auth').map(m => m.token)")
    assert tokens[-1].startswith("token-")


@pytest.mark.parametrize(("language", "side"), [("en", "left"), ("ar", "right")])
async def test_each_paragraph_is_aligned_by_its_own_script(
    shared: Shared, open_page: NewPage, language: str, side: str
) -> None:
    """Covers mixed English and Arabic text on left-to-right and right-to-left pages.

    The title has the direction of the page.
    """
    page = await open_page(shared.server.url)
    await page.evaluate(STREAM, ["One.\n\n- two\n\nواحد.\n\n1. اثنان\n", 0.1])
    await element(page, f"chat.setAttribute('lang', '{language}')")
    await element(page, "chat.heading = chat.conversation = 'S'")
    await expect(page.locator(".title")).to_have_text("S")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await element(page, "chat.send('go')")
    await wait_for_end(page)
    sides = """() => {
      const root = document.querySelector("holdline-chat").shadowRoot;
      const sideOf = node => {
        const range = document.createRange();
        range.selectNodeContents(node);
        const box = root.querySelector(".text").getBoundingClientRect();
        const { left, right } = range.getBoundingClientRect();
        return left - box.left < box.right - right ? "left" : "right";
      };
      return [...root.querySelectorAll(".text > p, .text > * > li, .title")].map(sideOf);
    }"""
    assert [side, "left", "left", "right", "right"] == await page.evaluate(sides)


@pytest.mark.parametrize(
    ("language", "direction", "send"), [("de", "ltr", "Senden"), ("ar", "rtl", "إرسال")]
)
async def test_the_widget_speaks_the_language_of_the_page(
    shared: Shared, open_page: NewPage, language: str, direction: str, send: str
) -> None:
    page = await open_page(shared.server.url)
    await element(page, f"chat.setAttribute('lang', '{language}')")
    await expect(page.locator("#send")).to_have_accessible_name(send)
    assert direction == await page.locator(".panel").evaluate("e => getComputedStyle(e).direction")
    prompt = shared.prompt("tokens=3")
    await ask(page, prompt)
    assert await wait_for_end(page) == shared.answer_to(prompt)
    # Each line that the visitor writes has the direction of its own first letter.
    await element(page, "chat.feedback = true")
    for field in ("#prompt", ".feedback-comment"):
        style = "e => getComputedStyle(e).unicodeBidi"
        assert "plaintext" == await page.locator(field).last.evaluate(style), field
