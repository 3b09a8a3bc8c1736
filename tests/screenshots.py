"""Takes the screenshots for the documents from the real system in a real Chromium.

The command `make screenshots` runs this program, and `make screenshots ARGS=console` a part of it.
It shows each visible state in light and dark mode, on a desktop and on a phone.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright, expect

from command.up.redis import embedded_redis
from tests.browser import CHROMIUM, FLAGS, ask
from tests.console_screens import take_all
from tests.screenshot_samples import FOLDER, SHOP, SNIPPET
from tests.system import Process, System
from tests.widget_screens import (
    DESK,
    LOOKS,
    Look,
    Take,
    additions,
    demo_model,
    devices,
    opened,
    status,
)

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"


async def take_image(page: Page, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    await page.evaluate(
        "document.querySelector('.live holdline-chat')?.scrollIntoView({ block: 'center' })"
    )
    await page.wait_for_timeout(150)
    await page.screenshot(path=IMAGES / f"{name}.png")
    print(f"{IMAGES.name}/{name}.png")


async def waiting(page: Page, look: str, take: Take, system: System, model: str) -> Process:
    """Shows the empty page, and then a queued prompt before a worker starts."""
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await take(page, f"begin-{look}")
    await ask(page, "How does a long answer survive a lost connection? Show me some code.")
    await expect(page.locator("article.answer .note")).to_contain_text("Next in line")
    await take(page, f"queued-{look}")
    return await system.worker(model)


async def answering(page: Page, look: str, take: Take) -> None:
    """Shows an answer from its first words to its end, with a lost connection in between."""
    text = page.locator("article.answer .text").last
    await expect(text).to_contain_text("pushes each piece", timeout=30_000)
    await take(page, f"writing-{look}")
    await page.click("#plug")
    await expect(page.locator("#banner")).to_be_visible()
    await take(page, f"reconnecting-{look}")
    await status(page, "completed")
    await take(page, f"done-{look}")


async def ending(page: Page, look: str, take: Take) -> None:
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


async def floating(page: Page, look: str, take: Take, url: str, *, language: str = "en") -> None:
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


async def reviewing(page: Page, look: str, take: Take, url: str) -> None:
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


async def chat(browser: Browser, take: Take, looks: Sequence[Look] = LOOKS) -> None:
    """Starts everything but a worker and shows every state to each kind of visitor."""
    async with (
        demo_model() as model,
        embedded_redis() as url,
        System(url, Path(tempfile.mkdtemp())) as system,
    ):
        system.environ["HOLDLINE_MODEL"] = "holdline-demo"
        server = await system.server()
        for look in looks:
            async with opened(browser, look) as page:
                await page.goto(server.url)
                if look.phone:
                    await page.locator("holdline-chat").scroll_into_view_if_needed()
                worker = await waiting(page, look.name, take, system, model)
                await answering(page, look.name, take)
                await ending(page, look.name, take)
                await floating(page, look.name, take, server.url)
                await reviewing(page, look.name, take, server.url)
                await worker.kill()
        async with opened(browser, DESK) as page:
            await floating(page, "desk-arabic", take, server.url, language="ar")


# The parts of the widget's screenshots. Each function shows the states of its part in some looks.
PARTS = {"chat": chat, "additions": additions, "devices": devices}


async def main(*names: str) -> None:
    """Takes the screenshots of the named parts, or all of them."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in names or [*PARTS, "console"]:
            if name == "console":
                await take_all(browser, IMAGES)
            else:
                await PARTS[name](browser, take_image)
        await browser.close()
    if not names or "chat" in names:
        shutil.copy(IMAGES / "writing-desk-light.png", IMAGES / "page.png")
        shutil.copy(IMAGES / "writing-phone-dark.png", IMAGES / "page-phone-dark.png")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
