"""`make screenshots`: the pictures in the documents, taken of the real thing in a real Chromium."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright, expect

from dev.redis import embedded_redis
from tests.system import System, free_port

IMAGES = Path(__file__).parent.parent / "docs" / "images"
PROMPT = "How does a long answer survive a lost connection? Show me some code."
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


async def _take(page: Page, name: str) -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=IMAGES / name)
    print(IMAGES.name, name)


async def main() -> None:
    """Starts everything, asks, and takes the pictures in mid-answer."""
    folder = Path(tempfile.mkdtemp())
    port = free_port()
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dev.model", "--port", str(port)
    )
    try:
        async with embedded_redis() as url, System(url, folder) as system:
            system.environ["HOLDLINE_MODEL"] = "holdline-demo"
            server = await system.server()
            await system.worker(f"http://127.0.0.1:{port}/v1")
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(
                    executable_path=shutil.which("chromium"), args=FLAGS
                )
                for scheme, width, height, name in (
                    ("light", 1100, 760, "page.png"),
                    ("dark", 390, 780, "page-phone-dark.png"),
                ):
                    context = await browser.new_context(
                        color_scheme=scheme,  # type: ignore[arg-type]
                        viewport={"width": width, "height": height},
                        device_scale_factor=2 if width < 500 else 1,
                    )
                    page = await context.new_page()
                    await page.goto(server.url)
                    await page.fill("#prompt", PROMPT)
                    await page.click("#send")
                    answer = page.locator("article.answer").last
                    await expect(answer).to_have_attribute("data-status", "in_progress")
                    text = answer.locator(".text")
                    await expect(text).to_contain_text("```", timeout=30_000)
                    await _take(page, name)
                await browser.close()
    finally:
        demo.terminate()
        await demo.wait()


if __name__ == "__main__":
    asyncio.run(main())
