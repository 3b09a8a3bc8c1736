"""Shows the states of the widget, for screenshots and for checks of each state."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from playwright.async_api import Browser, FilePayload, Page, expect

import holdline_client
from command.up.redis import embedded_redis
from tests.browser import IN_PAGE, ask
from tests.paths.conversation_devices import require_tokens
from tests.system import System, free_port

# Takes a screenshot of a page, or examines it. The name is that of the state and the look.
Take = Callable[[Page, str], Awaitable[None]]


class Look(NamedTuple):
    """The colour scheme, the kind of screen and the language of a visitor."""

    scheme: str
    phone: bool
    language: str = "en"

    @property
    def name(self) -> str:
        kind = self.scheme if self.language == "en" else "arabic"
        return f"{'phone' if self.phone else 'desk'}-{kind}"


DESK, PHONE = Look("light", phone=False), Look("dark", phone=True)
LOOKS = (DESK, PHONE, Look("dark", phone=False), Look("light", phone=True))
ARABIC = Look("light", phone=True, language="ar")


async def status(page: Page, wanted: str) -> None:
    answer = page.locator("article.answer").last
    await expect(answer).to_have_attribute("data-status", wanted, timeout=60_000)


@asynccontextmanager
async def opened(browser: Browser, look: Look) -> AsyncIterator[Page]:
    context = await browser.new_context(
        color_scheme=look.scheme,  # type: ignore[arg-type]
        viewport={"width": 390, "height": 780} if look.phone else {"width": 1200, "height": 800},
        device_scale_factor=2 if look.phone else 1,
        has_touch=look.phone,
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


FILES = (IN_PAGE / "files.js").read_text()
LARGE: FilePayload = {
    "name": "recipes.pdf",
    "mimeType": "application/pdf",
    "buffer": b"%PDF-1.4 " + bytes(2_000_000),
}
SAY = (IN_PAGE / "say.js").read_text()
WHOLE = """language => Object.assign(document.querySelector("holdline-chat"), {
  lang: language, attachments: true, feedback: true, assistantName: "Holly", userName: "Anna",
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


async def additions(browser: Browser, take: Take, looks: Sequence[Look] = (DESK, PHONE)) -> None:
    """Shows what sites can add to the widget: files, names, tools and suggestions."""
    async with (
        embedded_redis() as url,
        System(url, Path(tempfile.mkdtemp())) as system,
    ):
        server = await system.server()
        for look in looks:
            async with opened(browser, look) as page:
                await page.goto(server.url)
                await page.evaluate(WHOLE, look.language)
                await files(page, look.name, take)
                await tools(page, look.name, take)


async def files(page: Page, look: str, take: Take) -> None:
    """Shows a file that is too large, and an image in the field and in a prompt."""
    await expect(page.locator(".attach")).to_be_visible()
    await page.set_input_files("input[type=file]", [LARGE])
    await expect(page.locator(".tray")).to_contain_text(LARGE["name"])
    await take(page, f"too-large-{look}")
    images = [["bread.jpg", "image/jpeg", 1200, 900]]
    await page.evaluate(f"([how, images]) => ({FILES})(how, images)", ["paste", images])
    await expect(page.locator(".tray .file")).to_have_count(1)
    await take(page, f"files-{look}")


async def tools(page: Page, look: str, take: Take) -> None:
    """Shows a call that waits for a decision, an allowed one and one that is not allowed."""
    events = [
        {"type": "response.output_item.done", "output_index": index, "item": item}
        for index, item in enumerate(ANSWERED)
    ]
    await page.evaluate(SAY, events)
    # The widget uses the simulated server once it connects again.
    await page.evaluate("document.querySelector('holdline-chat').conversation = 'x'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    images = [["bread.jpg", "image/jpeg", 1200, 900]]
    await page.evaluate(f"([how, images]) => ({FILES})(how, images)", ["paste", images])
    await expect(page.locator(".tray .file").first).to_be_visible()
    await ask(page, "42. What does it cost?")
    await status(page, "completed")
    await page.locator(".prompt .file").scroll_into_view_if_needed()
    await take(page, f"images-{look}")
    await expect(page.locator(".approve")).to_be_visible()
    await page.locator(".tools").first.evaluate("tools => tools.scrollIntoView()")
    await take(page, f"tools-{look}")
    for decision in ("approve", "deny"):
        if await page.locator("article.answer").count() > 1:
            await page.evaluate("document.querySelector('holdline-chat').clear()")
            await ask(page, "42. What does it cost?")
            await status(page, "completed")
        await page.click(f".{decision}")
        await expect(page.locator("article.answer")).to_have_count(2)
        await status(page, "completed")
        await take(page, f"{decision}-{look}")


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


async def conversations(page: Page, look: str, take: Take) -> None:
    """Shows feedback, versions of an answer, the list of conversations, and an unsent prompt."""
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.click(".list-button")
    await take(page, f"list-empty-{look}")
    await page.locator(".conversations-head .action").click()
    await ask(page, "When is the plait baked?")
    await status(page, "completed")
    await page.locator(".thumb.down").click()
    await page.fill(".feedback-comment", "I asked for the time on Saturdays.")
    await take(page, f"feedback-{look}")
    await page.locator(".feedback .again").click()
    await expect(page.locator(".feedback-thanks")).not_to_be_empty()
    await take(page, f"thanks-{look}")
    for prompt in ("Write a table", "Which bread keeps longest?"):
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
    await changing(page, look, take)
    await page.locator(".conversations-head .action").click()
    await page.context.set_offline(True)
    await ask(page, "And which one is vegan?")
    await expect(page.locator("#banner")).to_be_visible()
    await take(page, f"unsent-{look}")
    await page.context.set_offline(False)
    await status(page, "completed")
    await page.evaluate("document.querySelector('holdline-chat').logout()")
    await expect(page.locator(".turn")).to_have_count(0)
    await take(page, f"logged-out-{look}")


async def changing(page: Page, look: str, take: Take) -> None:
    """Searches the list of conversations, and begins to rename and to delete one."""
    items = page.locator(".conversation-item")
    await page.fill(".search", "sourdough")
    await expect(items).to_have_count(0)
    await take(page, f"list-nothing-{look}")
    await page.fill(".search", "table")
    await expect(items).to_have_count(1)
    await take(page, f"list-search-{look}")
    await items.locator(".action").first.click()
    await expect(page.locator(".new-title")).to_be_visible()
    await take(page, f"list-rename-{look}")
    await page.keyboard.press("Escape")
    await items.locator(".action").last.click()
    await expect(page.locator(".remove")).to_be_visible()
    await take(page, f"list-delete-{look}")
    await page.click(".keep")
    await page.fill(".search", "")


async def devices(
    browser: Browser, take: Take, looks: Sequence[Look] = (DESK, PHONE, ARABIC)
) -> None:
    """Shows the conversations that a signed-in visitor has on all devices."""
    folder = Path(tempfile.mkdtemp())
    async with (
        demo_model() as model,
        embedded_redis() as url,
        System(url, folder) as system,
    ):
        system.environ["HOLDLINE_MODEL"] = "holdline-demo"
        signer = await require_tokens(system, folder)
        server, _ = await asyncio.gather(system.server(), system.worker(model))
        for look in looks:
            token = holdline_client.mint_token(
                signer, tenant="acme", subject=look.name, seconds=900
            )
            async with opened(browser, look) as page:
                await page.goto(f"{server.url}/docs/empty")
                await page.evaluate(SIGNED_IN, [token, look.language])
                await conversations(page, look.name, take)
