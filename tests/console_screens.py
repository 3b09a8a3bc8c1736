"""Takes the screenshots of the console from a real service: `make screenshots ARGS=console`."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import aiohttp
from playwright.async_api import Browser, Page, expect

from command.up.redis import embedded_redis
from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.proxy import Proxy
from tests.server.auth_helpers import Credentials
from tests.system import Server, System, wait_until

MODELS: Final = """
default = "fast"
[models.fast]
base_url = "{url}"
[models.large]
base_url = "{url}"
"""
VISION: Final = '[models.vision]\nbase_url = "{url}"\n'
LOOKS: Final = (("light", False), ("dark", False), ("light", True), ("dark", True))
SLOW: Final = "mode=slow pace=0.5 tokens=900"
# The history of a page begins when the page is opened.
HISTORY_SECONDS: Final = 45


class Visitors:
    """A page for each combination of colour scheme and screen."""

    def __init__(self, pages: dict[str, Page], images: Path) -> None:
        self._pages = pages
        self._images = images

    async def take(self, name: str) -> None:
        for look, page in self._pages.items():
            await page.evaluate("scrollTo(0, 0)")
            await page.screenshot(path=self._images / f"{name}-{look}.png")
            print(f"{self._images.name}/{name}-{look}.png")

    async def each(self, do: Any) -> None:
        for page in self._pages.values():
            await do(page)


async def submit(server: Server, key: str, text: str, **fields: Any) -> str:
    """Submits a prompt, and returns the id of its response, or "None" if it is refused."""
    headers = {"Authorization": f"Bearer {key}"}
    body = {"input": text, "background": True, **fields}
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as http,
        http.post("/v1/responses", json=body) as answer,
    ):
        return str((await answer.json()).get("id"))


async def sign_in(page: Page, key: str) -> None:
    await page.fill("#key", key)
    await page.press("#key", "Enter")
    await expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=30_000)


async def take_all(browser: Browser, images: Path) -> None:
    """Shows each state of the console on all screens."""
    folder = Path(tempfile.mkdtemp())
    credentials = Credentials(folder)
    acme, bakery = (
        credentials.key(name, "create", "read", "cancel") for name in ("acme", "bakery")
    )
    operator = credentials.key("ops", "operator", "contents")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        url = await enter(embedded_redis())
        model = await enter(FakeModel())
        system = await enter(System(url, folder))
        proxy = await enter(Proxy(url))
        pipe = await enter(Pipe(Redis(url)))
        (folder / "models.toml").write_text(MODELS.format(url=model.url))
        (folder / "all.toml").write_text((MODELS + VISION).format(url=model.url))
        system.environ |= {f"HOLDLINE_{n.upper()}": v for n, v in credentials.settings.items()}
        system.environ |= {"HOLDLINE_MODEL": "", "HOLDLINE_MODELS": str(folder / "models.toml")}
        system.environ |= {"HOLDLINE_LEASE_SECONDS": "4", "HOLDLINE_TENANT_TOKENS_PER_DAY": "60000"}
        system.environ["HOLDLINE_STALL_TIMEOUT_SECONDS"] = "600"
        server = await system.server(REDIS_URL=proxy.url, HOLDLINE_MODELS=str(folder / "all.toml"))
        pages = {}
        for scheme, phone in LOOKS:
            context = await browser.new_context(
                color_scheme=scheme,  # type: ignore[arg-type]
                viewport={"width": 390, "height": 844} if phone else {"width": 1200, "height": 900},
                device_scale_factor=2 if phone else 1,
                has_touch=phone,
            )
            stack.push_async_callback(context.close)
            page = pages[f"{'phone' if phone else 'desk'}-{scheme}"] = await context.new_page()
            await page.goto(f"{server.url}/console")
            await expect(page.locator("#sign-in")).to_be_visible(timeout=30_000)
        visitors = Visitors(pages, images)
        await visitors.take("console-sign-in")
        await visitors.each(lambda page: sign_in(page, operator))
        # The worker that is killed later takes this prompt: no other prompt has priority yet. The
        # first answer to the prompt does not end, and the second one does.
        watched = await submit(
            server,
            acme,
            "mode=hang at=60 times=1 pace=0.1 tokens=90",
            model="fast",
            service_tier="priority",
        )
        for number in range(7):
            await submit(server, acme if number % 3 else bakery, SLOW, model="fast")
        await submit(server, acme, SLOW, model="vision", service_tier="flex")
        await asyncio.sleep(3)  # the pages show the waiting prompts
        await visitors.take("console-empty")
        worker = await system.worker(model.url, HOLDLINE_CONCURRENCY="6")
        await wait_until(lambda: any(call.sent for call in model.calls))
        await system.worker(model.url, HOLDLINE_CONCURRENCY="6")
        await system.server()
        for number in range(HISTORY_SECONDS):
            key, tier = (bakery, "flex") if number % 4 == 0 else (acme, "priority")
            words = SLOW if number % 3 == 0 else "mode=slow pace=0.05 tokens=40"
            name = "large" if number % 5 == 0 else "fast"
            await submit(server, key, words, model=name, service_tier=tier)
            if number % 6 == 0:
                await submit(server, acme, "mode=500", model="large")
                await submit(server, bakery, "mode=slow", model="unknown")
            if number == HISTORY_SECONDS // 3:
                await worker.kill()
                await system.worker(model.url, HOLDLINE_CONCURRENCY="6")
            await asyncio.sleep(1)  # one point of the history after the other
        names = Partition(0)
        await pipe.call("RPUSH", names.dead, f"resp_000{'4f1d' * 8}")
        await pipe.call("PEXPIRE", names.dead, 600_000)
        await asyncio.sleep(3)  # the pages show the dead list
        await visitors.take("console")
        for page in pages.values():
            await page.goto(f"{server.url}/console#{watched}")
            await expect(page.locator(".timeline-status")).to_have_text("completed", timeout=90_000)
            await expect(page.locator(".picture-title", has_text="Attempt 2")).to_be_visible()
        await visitors.take("console-timeline")
        for page in pages.values():
            await page.goto(f"{server.url}/console#resp_000{'9b' * 16}")
            await expect(page.locator(".timeline-message")).to_contain_text(
                "expired", timeout=30_000
            )
        await visitors.take("console-unknown")
        await visitors.each(lambda page: page.click(".back"))
        proxy.stop_forwarding()
        for page in pages.values():
            await expect(page.locator("#stale")).to_contain_text("Redis", timeout=30_000)
        await asyncio.sleep(6)  # the age of the data is visible
        await visitors.take("console-redis")
        proxy.forward_again()
