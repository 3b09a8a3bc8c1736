"""Takes the screenshots for the documents from the real system in a real Chromium.

The command `make screenshots` runs this program, and `make screenshots ARGS=console` a part of it.
It shows each visible state in light and dark mode, on a desktop and on a phone.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

import holdline_client
from command.up.redis import embedded_redis
from tests.browser import CHROMIUM, FLAGS, IN_PAGE
from tests.console_screens import take_all
from tests.paths.conversation_devices import require_tokens
from tests.screenshot_samples import FOLDER, SHOP, SNIPPET
from tests.system import Process, System, free_port

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"


async def take(page: Page, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    await page.evaluate(
        "document.querySelector('.live holdline-chat')?.scrollIntoView({ block: 'center' })"
    )
    await page.wait_for_timeout(150)
    await page.screenshot(path=IMAGES / f"{name}.png")
    print(f"{IMAGES.name}/{name}.png")


async def status(page: Page, wanted: str) -> None:
    answer = page.locator("article.answer").last
    await expect(answer).to_have_attribute("data-status", wanted, timeout=60_000)


async def ask(page: Page, prompt: str) -> None:
    await page.fill("#prompt", prompt)
    await page.click("#send")


async def waiting(page: Page, look: str, system: System, model: str) -> Process:
    """Shows the empty page, and then a queued prompt before a worker starts."""
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await take(page, f"begin-{look}")
    await ask(page, "How does a long answer survive a lost connection? Show me some code.")
    await expect(page.locator("article.answer .note")).to_contain_text("Next in line")
    await take(page, f"queued-{look}")
    return await system.worker(model)


async def answering(page: Page, look: str) -> None:
    """Shows an answer from its first words to its end, with a lost connection in between."""
    text = page.locator("article.answer .text").last
    await expect(text).to_contain_text("pushes each piece", timeout=30_000)
    await take(page, f"writing-{look}")
    await page.click("#plug")
    await expect(page.locator("#banner")).to_be_visible()
    await take(page, f"reconnecting-{look}")
    await status(page, "completed")
    await take(page, f"done-{look}")


async def ending(page: Page, look: str) -> None:
    """Shows a restarted, a stopped and a failed answer."""
    await ask(page, f"Be cut once ({look})")
    note = page.locator("article.answer .note").last
    await expect(note).to_contain_text("Attempt 2", timeout=60_000)
    await take(page, f"restarted-{look}")
    await page.click("#stop")
    await status(page, "cancelled")
    await take(page, f"stopped-{look}")
    await ask(page, "Please fail")
    await status(page, "failed")
    await take(page, f"failed-{look}")


async def floating(page: Page, look: str, url: str, *, language: str = "en") -> None:
    """Shows the floating widget on another site: open, and closed with an unread answer."""
    await page.goto(f"{url}/docs/shop")
    await page.evaluate(
        """([html, language]) => {
          document.documentElement.lang = language;
          document.body.replaceChildren();
          const sheet = new CSSStyleSheet();
          sheet.replaceSync(html.match(/<style>([^]*)<.style>/)[1]);
          document.adoptedStyleSheets = [sheet];
          for (const link of document.querySelectorAll("link[rel=stylesheet]")) link.remove();
          const main = document.createElement("main");
          for (const [, tag, text] of html.matchAll(/<(h1|p)>([^<]*)/g)) {
            main.append(Object.assign(document.createElement(tag), { textContent: text }));
          }
          const chat = document.createElement("holdline-chat");
          chat.setAttribute("mode", "floating");
          chat.setAttribute("conversation", "shop");
          document.body.append(main, chat);
          return import("/widget.js");
        }""",
        [SHOP, language],
    )
    await page.click(".launcher")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await take(page, f"floating-open-{look}")
    if language != "en":
        return
    await ask(page, "Write a table")
    await page.click(".close")
    await expect(page.locator(".launcher .badge")).to_be_visible(timeout=40_000)
    await take(page, f"floating-unread-{look}")


async def reviewing(page: Page, look: str, url: str) -> None:
    await page.goto(f"{url}/review")
    await page.fill(
        "#code", f"{SNIPPET}\n# {look}\n"
    )  # a new text, so that no stored review matches
    await take(page, f"review-begin-{look}")
    await page.click(".go")
    await expect(page.locator(".card.complexity")).to_have_attribute(
        "data-state", "writing", timeout=30_000
    )
    await take(page, f"review-writing-{look}")
    await end_of_review(page)
    await page.locator(".rows .line-link").first.click()
    await take(page, f"review-done-{look}")
    await page.click("#other")
    folder = Path(tempfile.mkdtemp()) / "shop"
    for name, text in FOLDER.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{text}\n// {look}\n")
    await page.set_input_files("#folder", folder)
    await expect(page.locator(".selection")).to_be_visible()
    await take(page, f"review-folder-{look}")
    await page.click(".go")
    await expect(page.locator(".rows .comment").first).to_be_visible(timeout=30_000)
    await take(page, f"review-files-writing-{look}")
    await end_of_review(page)
    await take(page, f"review-files-done-{look}")


async def end_of_review(page: Page) -> None:
    await expect(page.locator(".board")).to_have_attribute("data-state", "ended", timeout=60_000)


@asynccontextmanager
async def opened(browser: Browser, scheme: str, *, phone: bool) -> AsyncIterator[Page]:
    context = await browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 390, "height": 780} if phone else {"width": 1200, "height": 800},
        device_scale_factor=2 if phone else 1,
        has_touch=phone,
    )
    try:
        yield await context.new_page()
    finally:
        await context.close()


@asynccontextmanager
async def demo_model() -> AsyncIterator[str]:
    """Runs the simulated model and yields its address."""
    port = free_port()
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "command", "demo-model", "--port", str(port)
    )
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        demo.terminate()
        await demo.wait()


async def chat() -> None:
    """Starts everything but a worker and shows every state to each kind of visitor."""
    async with (
        demo_model() as model,
        embedded_redis() as url,
        System(url, Path(tempfile.mkdtemp())) as system,
        async_playwright() as playwright,
    ):
        system.environ["HOLDLINE_MODEL"] = "holdline-demo"
        server = await system.server()
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme, phone in (
            ("light", False),
            ("dark", True),
            ("dark", False),
            ("light", True),
        ):
            look = f"{'phone' if phone else 'desk'}-{scheme}"
            async with opened(browser, scheme, phone=phone) as page:
                await page.goto(server.url)
                if phone:
                    await page.locator("holdline-chat").scroll_into_view_if_needed()
                worker = await waiting(page, look, system, model)
                await answering(page, look)
                await ending(page, look)
                await floating(page, look, server.url)
                await reviewing(page, look, server.url)
                await worker.kill()
        async with opened(browser, "light", phone=False) as page:
            await floating(page, "desk-arabic", server.url, language="ar")
        await browser.close()
    shutil.copy(IMAGES / "writing-desk-light.png", IMAGES / "page.png")
    shutil.copy(IMAGES / "writing-phone-dark.png", IMAGES / "page-phone-dark.png")


FILES = (IN_PAGE / "files.js").read_text()
SAY = (IN_PAGE / "say.js").read_text()
WHOLE = """Object.assign(document.querySelector("holdline-chat"), {
  attachments: true, feedback: true, assistantName: "Holly", userName: "Anna",
  opening: "Hello, I am **Holly**. What is your order number?",
  followUps: ["When will it come?", "Thank you, that is all."],
})"""
ANSWERED = [
    {
        "id": "mcp_1",
        "type": "mcp_call",
        "name": "find_order",
        "arguments": '{"order": 42}',
        "output": "one rye, one plait",
        "status": "completed",
    },
    {
        "id": "msg_1",
        "type": "message",
        "content": [
            {
                "type": "output_text",
                "text": "Your order costs €9.[^1] Shall I cancel it?\n\n[^1]: With *tax*.\n",
                "annotations": [
                    {
                        "type": "url_citation",
                        "url": "https://bakery.example/prices",
                        "title": "Prices",
                        "end_index": 24,
                    }
                ],
            }
        ],
    },
    {
        "id": "mcpr_1",
        "type": "mcp_approval_request",
        "name": "cancel_order",
        "arguments": '{"order": 42}',
    },
]


async def additions() -> None:
    """Shows what sites can add to the widget: files, names, feedback, tools and suggestions."""
    async with (
        embedded_redis() as url,
        System(url, Path(tempfile.mkdtemp())) as system,
        async_playwright() as playwright,
    ):
        server = await system.server()
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme, phone in (("light", False), ("dark", True)):
            look = f"{'phone' if phone else 'desk'}-{scheme}"
            async with opened(browser, scheme, phone=phone) as page:
                await page.goto(server.url)
                await page.evaluate(WHOLE)
                await expect(page.locator(".attach")).to_be_visible()
                images = [["bread.jpg", "image/jpeg", 1200, 900]]
                await page.evaluate(f"([how, images]) => ({FILES})(how, images)", ["paste", images])
                await expect(page.locator(".tray .file")).to_have_count(1)
                await take(page, f"files-{look}")
                events = [
                    {"type": "response.output_item.done", "output_index": index, "item": item}
                    for index, item in enumerate(ANSWERED)
                ]
                await page.evaluate(SAY, events)
                await page.evaluate("document.querySelector('holdline-chat').conversation = 'x'")
                await expect(page.locator("#state")).to_have_attribute("data-state", "open")
                await ask(page, "42. What does it cost?")
                await status(page, "completed")
                await expect(page.locator(".approve")).to_be_visible()
                await page.locator(".tools").first.evaluate("tools => tools.scrollIntoView()")
                await take(page, f"tools-{look}")
        await browser.close()


# Replaces the page by the widget of a signed-in visitor.
SIGNED_IN = """async ([token, language]) => {
  document.documentElement.lang = language;
  const chat = document.createElement("holdline-chat");
  Object.assign(chat.style, { blockSize: "100dvh" });
  for (const name of ["conversations", "feedback"]) chat.setAttribute(name, "");
  chat.tokenProvider = () => token;
  document.body.replaceChildren(chat);
  document.body.style.margin = 0;
  await import("/widget.js");
}"""


async def conversations(page: Page, look: str) -> None:
    """Shows the versions of an answer, the list of conversations, and an unsent prompt."""
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    for prompt in ("When is the plait baked?", "Write a table", "Which bread keeps longest?"):
        if await page.locator("#new").is_visible():
            await page.click("#new")
        await ask(page, prompt)
        await status(page, "completed")
    await page.locator(".regenerate").click()
    await expect(page.locator(".branch-place")).to_have_text("2/2")
    await status(page, "completed")
    await take(page, f"versions-{look}")
    await page.click(".list-button")
    await expect(page.locator(".conversation-item")).to_have_count(3)
    await take(page, f"list-{look}")
    await page.locator(".conversations-head .action").click()
    await page.context.set_offline(True)
    await ask(page, "And which one is vegan?")
    await expect(page.locator("#banner")).to_be_visible()
    await take(page, f"unsent-{look}")
    await page.context.set_offline(False)


async def devices() -> None:
    """Shows the conversations that a signed-in visitor has on all devices."""
    folder = Path(tempfile.mkdtemp())
    async with (
        demo_model() as model,
        embedded_redis() as url,
        System(url, folder) as system,
        async_playwright() as playwright,
    ):
        system.environ["HOLDLINE_MODEL"] = "holdline-demo"
        signer = await require_tokens(system, folder)
        server, _ = await asyncio.gather(system.server(), system.worker(model))
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme, phone, language in (
            ("light", False, "en"),
            ("dark", True, "en"),
            ("light", True, "ar"),
        ):
            kind = scheme if language == "en" else "arabic"
            look = f"{'phone' if phone else 'desk'}-{kind}"
            token = holdline_client.mint_token(signer, tenant="acme", subject=look, seconds=900)
            async with opened(browser, scheme, phone=phone) as page:
                await page.goto(f"{server.url}/docs/empty")
                await page.evaluate(SIGNED_IN, [token, language])
                await conversations(page, look)
        await browser.close()


async def console() -> None:
    """Takes the screenshots of the console."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        await take_all(browser, IMAGES)
        await browser.close()


async def main(*names: str) -> None:
    """Takes the screenshots of the named parts, or all of them."""
    parts = {"chat": chat, "additions": additions, "devices": devices, "console": console}
    for name in names or parts:
        await parts[name]()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
