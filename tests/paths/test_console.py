"""Tests the console in real browsers: what it shows, who sees it, and how it behaves in trouble."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import SharedSettings
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.server_registry import ServerRecord, ServerRegistry, ServerState
from jobs.worker_registry import RunningRecord, WorkerRecord, WorkerRegistry, WorkerState
from tests.browser import AXE, AXE_RUN, NewPage, Watch, in_chromium
from tests.fake_model import FakeModel
from tests.jobs.factories import a_job, opening
from tests.jobs.proxy import Proxy
from tests.server.auth_helpers import Credentials
from tests.system import Server, System, wait_until

pytestmark = in_chromium

SLOW = "mode=slow pace=0.2 tokens=300"
PHONE = {"width": 390, "height": 780}
needs_axe = pytest.mark.skipif(
    not AXE.exists(), reason="axe-core is not installed: make check installs it"
)


async def submit(server: Server, text: str, **fields: Any) -> str:
    async with aiohttp.ClientSession(server.url) as http:
        body = {"input": text, "background": True, **fields}
        async with http.post("/v1/responses", json=body) as answer:
            return str((await answer.json())["id"])


async def tile(page: Page, title: str, value: str) -> None:
    section = page.locator(".tile", has=page.locator(f"h2:text-is('{title}')"))
    await expect(section.locator(".tile-value")).to_have_text(value, timeout=10_000)


def rows(page: Page, title: str) -> Any:
    return page.locator(f"section.panel:has(h2:has-text('{title}')) tbody tr")


async def live(page: Page) -> None:
    await expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=20_000)


# What it shows


async def test_the_console_shows_a_service_from_no_worker_to_a_finished_answer(
    system: System, open_page: NewPage
) -> None:
    server = await system.server()
    page = await open_page(f"{server.url}/console")
    await live(page)
    await expect(page.locator(".alert")).to_contain_text("No worker is alive")
    await expect(page.locator(".alert code")).to_have_text("holdline worker")
    await tile(page, "Waiting", "0")
    await expect(page.locator("body")).to_contain_text(
        "No worker is alive, so no prompt is answered"
    )
    id_ = await submit(server, SLOW)
    await tile(page, "Waiting", "1")
    async with FakeModel() as model:
        worker = await system.worker(model.url)
        await expect(page.locator(".alert")).to_have_count(0)
        await tile(page, "Running", "1")
        await expect(rows(page, "Running responses")).to_contain_text("writing", timeout=15_000)
        await expect(rows(page, "Workers")).to_have_count(1)
        await expect(rows(page, "Workers")).to_contain_text("1 of 100")
        await rows(page, "Running responses").locator("a").click()
        await page.wait_for_url(re.compile(f"#{id_}$"))
        await expect(page.locator(".timeline-status")).to_have_text("running")
        await expect(page.locator(".step-text").last).to_have_text("First token", timeout=15_000)
        assert SLOW not in await page.content()
        await worker.kill()
        await system.worker(model.url)
        await expect(page.locator(".picture-title", has_text="Attempt 2")).to_be_visible(
            timeout=20_000
        )
        async with (
            aiohttp.ClientSession(server.url) as http,
            http.post(f"/v1/responses/{id_}/cancel") as answer,
        ):
            assert 200 == answer.status
        await expect(page.locator(".timeline-status")).to_have_text("cancelled", timeout=15_000)


async def test_a_change_is_on_the_page_within_a_second(system: System, open_page: NewPage) -> None:
    server = await system.server()
    page = await open_page(f"{server.url}/console")
    await live(page)
    await page.evaluate(
        """() => {
          const value = document.querySelector(".tile-value");
          window.changed = new Promise(done => new MutationObserver(() => done(Date.now()))
            .observe(value, { childList: true, characterData: true, subtree: true }));
        }"""
    )
    await submit(server, "Why?")
    accepted = time.time() * 1000
    changed = await page.evaluate("window.changed")
    assert changed - accepted < 1_000


def record(number: int) -> WorkerRecord:
    answers = tuple(RunningRecord(f"resp_000{number:04}{n:028}", "m", 1, 5_000) for n in range(10))
    state = WorkerState.READY
    return WorkerRecord(f"gpu-{number}", 1, "1", 60_000, 10, (), state, "", len(answers), answers)


async def test_the_page_stays_smooth_with_a_thousand_workers_and_ten_thousand_answers(
    system: System, open_page: NewPage
) -> None:
    server = await system.server()
    async with Pipe(Redis(system.redis_url)) as pipe:
        registry = WorkerRegistry(pipe, 120_000)
        seconds, _ = await pipe.call("TIME")
        for number in range(1_000):
            one = record(number)
            await registry.register(f"{number:016}", one)
            until = (int(seconds) + 600) * 1000
            pairs = [part for answer in one.running for part in (until, answer.response_id)]
            await pipe.call("ZADD", Partition(0).leases, *pairs)
        await pipe.call("PEXPIRE", Partition(0).leases, 600_000)
    page = await open_page(f"{server.url}/console")
    await tile(page, "Running", "10,000")
    await tile(page, "Workers", "1,000")
    await expect(rows(page, "Workers")).to_have_count(10)
    await expect(page.locator("body")).to_contain_text("Shows the first 200 of 1,000.")
    await page.locator("section.panel:has(h2:has-text('Workers')) .more").click()
    await expect(rows(page, "Workers")).to_have_count(20)
    slowest = await page.evaluate(
        """async () => {
          let slowest = 0;
          const seen = new PerformanceObserver(list => {
            for (const entry of list.getEntries()) slowest = Math.max(slowest, entry.duration);
          });
          seen.observe({ type: "longtask" });
          await new Promise(done => setTimeout(done, 3000));
          return slowest;
        }"""
    )
    assert slowest < 250, "one state blocks the page, on a busy machine"
    await page.fill("#search", "gpu-17")
    await expect(rows(page, "Workers").first).to_contain_text("gpu-17")
    await expect(page.locator("body")).to_contain_text("No match in the first 200 of 10,000.")


# Timelines


async def test_an_unknown_response_is_explained_and_a_link_opens_a_timeline(
    system: System, open_page: NewPage
) -> None:
    server = await system.server()
    unknown = f"resp_000{'a' * 32}"
    page = await open_page(f"{server.url}/console#{unknown}")
    await expect(page.locator(".timeline-message")).to_contain_text(
        "may have expired", timeout=10_000
    )
    id_ = await submit(server, "Why?")
    await page.fill("#search", f"see {server.url}/console#{id_}")
    await page.click("#find button")
    await expect(page.locator(".timeline-id")).to_have_text(id_)
    await expect(page.locator(".timeline-status")).to_have_text("queued", timeout=10_000)
    await expect(page.locator(".timeline-id")).to_be_focused()
    await page.go_back()
    await expect(page.locator(".timeline-id")).to_have_text(unknown)
    await page.click(".back")
    await expect(page.locator(".tiles")).to_be_visible()


# Trouble


async def test_the_page_shows_the_age_of_its_data_while_redis_is_unavailable(
    system: System, open_page: NewPage
) -> None:
    async with Proxy(system.redis_url) as proxy:
        server = await system.server(REDIS_URL=proxy.url)
        page = await open_page(f"{server.url}/console")
        await live(page)
        await submit(server, "Why?")
        await tile(page, "Waiting", "1")
        proxy.stop_forwarding()
        notice = page.locator("#stale")
        await expect(notice).to_contain_text("cannot reach Redis", timeout=20_000)
        await expect(notice).to_contain_text(re.compile(r"\d+ s ago"))
        await tile(page, "Waiting", "1")
        if AXE.exists():
            await accessible(page, "Redis unavailable")
        proxy.forward_again()
        await live(page)
        await expect(notice).to_be_hidden()


async def test_the_page_reconnects_to_a_restarted_server(
    system: System, open_page: NewPage
) -> None:
    server = await system.server()
    page = await open_page(f"{server.url}/console")
    await live(page)
    await server.kill()
    notice = page.locator("#stale")
    await expect(notice).to_contain_text("reconnects by itself", timeout=10_000)
    await expect(notice).to_contain_text(re.compile(r"\d+ s ago"), timeout=10_000)
    await system.server(HOLDLINE_PORT=server.url.rpartition(":")[2])
    await live(page)
    await expect(notice).to_be_hidden()


# Who sees it


@asynccontextmanager
async def guarded(system: System, folder: Path) -> AsyncIterator[tuple[Server, dict[str, str]]]:
    credentials = Credentials(folder)
    keys = {
        "operator": credentials.key("ops", "operator"),
        "contents": credentials.key("ops", "operator", "contents"),
        "support": credentials.key("acme", "create", "read", "cancel", "admin"),
    }
    files = {f"HOLDLINE_{name.upper()}": path for name, path in credentials.settings.items()}
    yield await system.server(**files), keys


async def sign_in(page: Page, key: str) -> None:
    await page.fill("#key", key)
    await page.press("#key", "Enter")


async def test_an_operator_signs_in_and_out_and_the_key_is_never_in_the_address(
    system: System, tmp_path: Path, open_page: NewPage
) -> None:
    async with guarded(system, tmp_path) as (server, keys):
        page = await open_page(f"{server.url}/console")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await expect(page.locator("#sign-in-message")).to_have_text(
            "This server requires a key or a token.", timeout=10_000
        )
        await expect(page.locator("#key")).to_be_focused()
        await sign_in(page, keys["operator"] + "x")
        await expect(page.locator("#sign-in-message")).to_contain_text("does not accept this key")
        await sign_in(page, keys["support"])
        await expect(page.locator("#sign-in-message")).to_contain_text(
            "not have the scope operator"
        )
        await expect(page.locator("#signed-in")).to_be_hidden()
        await sign_in(page, keys["operator"])
        await live(page)
        await page.reload()
        await live(page)
        assert not any(keys["operator"] in url for url in [page.url, *asked])
        assert keys["operator"] not in await page.content()
        await page.click("#sign-out")
        await expect(page.locator("#sign-in-message")).to_contain_text("signed out")
        await expect(page.locator("#signed-in")).to_be_hidden()
        assert 0 == await page.evaluate("sessionStorage.length + localStorage.length")
        await page.reload()
        await expect(page.locator("#sign-in")).to_be_visible()


async def test_contents_are_shown_only_with_their_scope_and_each_view_is_recorded(
    system: System, tmp_path: Path, open_page: NewPage
) -> None:
    async with guarded(system, tmp_path) as (server, keys):
        headers = {"Authorization": f"Bearer {keys['support']}"}
        async with aiohttp.ClientSession(server.url, headers=headers) as http:
            body = {"input": "the-words-of-anna", "background": True}
            async with http.post("/v1/responses", json=body) as answer:
                id_ = (await answer.json())["id"]
        page = await open_page(f"{server.url}/console#{id_}")
        await sign_in(page, keys["operator"])
        view = page.locator(".contents button")
        await expect(view).to_be_disabled(timeout=10_000)
        await expect(page.locator(".contents")).to_contain_text("lacks the scope contents")
        assert "the-words-of-anna" not in await page.content()
        await page.click("#sign-out")
        await page.goto(f"{server.url}/console#{id_}")
        await sign_in(page, keys["contents"])
        await expect(view).to_be_enabled(timeout=10_000)
        assert "the-words-of-anna" not in await page.content()
        await view.click()
        await expect(page.locator(".contents-text").first).to_have_text("the-words-of-anna")
        key_id = keys["contents"].split("_")[1]
        await wait_until(lambda: "contents viewed" in server.output)
        [line] = [line for line in server.output.splitlines() if "contents viewed" in line]
        assert key_id in line
        assert id_ in line
        listed = await system.run("audit", "--since", "1h")
        assert f"key {key_id}" in listed
        assert f"response {id_}" in listed


# Hostile names

HACK = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"


async def hostile(pipe: Pipe) -> str:
    """Stores hostile text in each field that the console shows. Returns the id of a response."""
    owner = f"{HACK}/{HACK}"
    queue = Queue(pipe, SharedSettings())
    job = a_job(owner, HACK, metadata={HACK: HACK})
    await queue.submit(job, opening(job), queue_name=f"d:{HACK}")
    [grant] = await queue.leases.claim(0, "claim", 1, worker="w")
    key = Partition(0).job(job.id)
    steps = (await pipe.call("HGET", key, "steps")).decode()
    await pipe.call("HSET", key, "steps", f"{steps}\ndelayed 7000000000000 1 <b>hacked</b>")
    running = RunningRecord(grant.response_id, HACK, 1, 5_000)
    text = HACK[:256]
    await WorkerRegistry(pipe, 120_000).register(
        "w", WorkerRecord(text, 1, text, 9, 1, (text,), WorkerState.PAUSED, text, 1, (running,))
    )
    await ServerRegistry(pipe).register(
        HACK, ServerRecord(text, 1, text, 9, ServerState.DRAINING, 1, 1, {HACK: 3})
    )
    dead = Partition(0).dead
    await pipe.call("RPUSH", dead, HACK, "javascript:window.hacked=1", f"resp_{HACK}")
    await pipe.call("PEXPIRE", dead, 600_000)
    return job.id


async def test_hostile_text_in_any_field_is_shown_as_text(
    system: System, open_page: NewPage
) -> None:
    async with Pipe(Redis(system.redis_url)) as pipe:
        id_ = await hostile(pipe)
    server = await system.server()
    page = await open_page(f"{server.url}/console")
    await live(page)
    for title in ("Workers", "Running responses", "Tenants", "Refused requests", "Servers", "Dead"):
        await expect(rows(page, title).first).to_be_visible(timeout=15_000)
        section = page.locator(f"section.panel:has(h2:has-text('{title}'))")
        await expect(section).to_contain_text("window.hacked=1")
    await expect(page.locator(".alert", has_text="window.hacked=1").first).to_be_visible()
    scripts = "document.querySelectorAll('img[src=x], a[href^=javascript], [onerror]').length"
    assert 0 == await page.evaluate(scripts)
    await page.goto(f"{server.url}/console#{id_}")
    await expect(page.locator(".timeline-status")).to_have_text("running", timeout=10_000)
    await page.click(".contents button")
    await expect(page.locator(".contents-text").first).to_contain_text("window.hacked=1")
    await page.goto(f"{server.url}/console#<img src=x onerror=window.hacked=1>")
    await page.fill("#search", HACK)
    await page.press("#search", "Enter")
    assert 0 == await page.evaluate(scripts)
    assert await page.evaluate("window.hacked === undefined")


# Accessibility and small screens


async def accessible(page: Page, state: str) -> None:
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN), state
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(wide) <= 0, f"{state}: the page scrolls sideways"


@needs_axe
@pytest.mark.parametrize(
    ("scheme", "phone"),
    [
        ("light", False),
        pytest.param("dark", True, marks=pytest.mark.heavy),
        pytest.param("light", True, marks=pytest.mark.heavy),
        pytest.param("dark", False, marks=pytest.mark.heavy),
    ],
)
async def test_axe_reports_no_violations_in_any_state(
    system: System, browser: Browser, tmp_path: Path, scheme: Any, phone: bool
) -> None:
    size: Any = {"viewport": PHONE} if phone else {}
    context: BrowserContext = await browser.new_context(color_scheme=scheme, **size)
    page = await context.new_page()
    server = await system.server()
    watch = Watch(page, server.url.split("/")[2])
    await page.goto(f"{server.url}/console")
    await live(page)
    id_ = await submit(server, SLOW)
    await tile(page, "Waiting", "1")
    await accessible(page, "no worker")
    async with FakeModel() as model:
        await system.worker(model.url)
        await expect(rows(page, "Running responses")).to_have_count(1, timeout=15_000)
        await accessible(page, "busy")
        await page.goto(f"{server.url}/console#{id_}")
        await expect(page.locator(".step-text").last).to_have_text("First token", timeout=15_000)
        await page.click(".contents button")
        await expect(page.locator(".contents-text")).to_have_count(2)
        await accessible(page, "timeline")
    await page.goto(f"{server.url}/console#resp_000{'a' * 32}")
    await expect(page.locator(".timeline-message")).to_contain_text(
        "may have expired", timeout=10_000
    )
    await accessible(page, "unknown response")
    assert [] == watch.wrong
    async with guarded(system, tmp_path) as (closed, _):
        await page.goto(f"{closed.url}/console")
        await expect(page.locator("#sign-in")).to_be_visible(timeout=10_000)
        await accessible(page, "sign-in")


async def test_the_console_can_be_used_with_the_keyboard_alone(
    system: System, open_page: NewPage
) -> None:
    server = await system.server()
    id_ = await submit(server, "Why?")
    page = await open_page(f"{server.url}/console")
    await live(page)
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")  # the command of the alert that no worker is alive
    await expect(page.locator(".command-copy").first).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.locator("#search")).to_be_focused()
    await page.keyboard.type(id_)
    await page.keyboard.press("Enter")
    await expect(page.locator(".timeline-id")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await expect(page.locator(".back")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator(".tiles")).to_be_visible()
