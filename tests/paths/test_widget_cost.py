"""How much of the main thread's time the widget costs while it streams.

Counted is the processor's time of the page's main thread: scripts, style, layout, paint, garbage.
The frames are made inside the page, because a browser's own work to receive 10,000 of them from a
real socket (0.5 s) is no widget's doing; making them is measured beforehand and subtracted.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import CDPSession, Page, expect

from tests.browser import IN_PAGE, MARKDOWN, NewPage, element, in_chromium
from tests.paths.conftest import Shared
from tests.system import wait_until

pytestmark = in_chromium

SECONDS = 2.0
TOKENS = 10_000
BUDGET_MS = 150
FRAME_MS = 50
# What the simplest page costs on the machine that the budget was set for, when it is quiet.
SIMPLEST_MS = 430
# What others do on the machine adds to a measurement and never takes away: the least is the truth.
ROUNDS = 5
STREAM, IDLE, BARE = ((IN_PAGE / f"{name}.js").read_text() for name in ("stream", "idle", "bare"))
TO_END = """() => {
  const log = document.querySelector("holdline-chat").shadowRoot.querySelector(".log");
  return log.scrollHeight - log.scrollTop - log.clientHeight;
}"""
GO = "() => document.querySelector('holdline-chat').send('go')"


async def prepared(shared: Shared, open_page: NewPage) -> tuple[Page, CDPSession]:
    """The front page, its widget connected to a server in the page."""
    page = await open_page(shared.server.url)
    text = (MARKDOWN["chat"] * 200)[:60_000]
    assert TOKENS == await page.evaluate(STREAM, [text, SECONDS])
    await element(page, "chat.conversation = 'measured'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.wait_for_timeout(800)  # what it does when it is idle
    return page, await page.context.new_cdp_session(page)


async def spent(page: Page, devtools: CDPSession, script: str) -> float:
    """Milliseconds of the main thread from a script's start until all has come and is drawn."""

    async def now() -> float:
        metrics = (await devtools.send("Performance.getMetrics"))["metrics"]
        found: float = next(m["value"] for m in metrics if m["name"] == "TaskDuration")
        return 1000 * found

    before = await now()
    await page.evaluate(script)
    await asyncio.sleep(SECONDS + 0.6)
    return await now() - before


async def test_ten_thousand_tokens_cost_less_than_the_budget(
    shared: Shared, open_page: NewPage
) -> None:
    """Where the simplest page, measured beside it, costs more than it should, the machine is slow:
    there, and nowhere else, the budget grows as much as that page's cost has.
    """
    best, simplest = 1e9, 1e9
    for _ in range(ROUNDS):
        page, devtools = await prepared(shared, open_page)
        await devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
        frames = await spent(page, devtools, IDLE)
        simplest = min(simplest, await spent(page, devtools, BARE) - frames)
        best = min(best, await spent(page, devtools, GO) - frames)
        assert "completed" == (await element(page, "chat.turns"))[0]["status"]

        async def at_the_end(page: Page = page) -> bool:
            return bool(await page.evaluate(TO_END) <= 1)

        await wait_until(at_the_end)  # it was drawn where somebody looks
        await page.context.close()
        print(f"frames {frames:.0f}, simplest {simplest:.0f}, widget {best:.0f} ms")
        if best < BUDGET_MS:
            break
    slowness = max(1, simplest / SIMPLEST_MS)
    print(f"the widget {best:.0f} ms of {BUDGET_MS}, on a machine {slowness:.2f} times as slow")
    assert best < BUDGET_MS * slowness


async def test_no_frame_of_ten_thousand_tokens_is_long(shared: Shared, open_page: NewPage) -> None:
    longest = 1e9
    for _ in range(ROUNDS):
        page, devtools = await prepared(shared, open_page)
        found = await tasks(page, devtools, GO, seconds=SECONDS + 0.6)
        assert len(found) > 100
        longest = min(longest, max(task for _, task in found))
        await page.context.close()
        print(f"longest task {longest:.1f} ms")
        if longest < FRAME_MS:
            break
    assert longest < FRAME_MS


# Texts that took longest, and one of each kind of bound.
WORST = [
    "_a__b",
    "_a__b\n",
    "_a__b\n\n",
    "a-_",
    "**x* ",
    "!",
    "$a\n",
    "emphasis",
    "wide table",
    "lazy list",
    "- a\n\n",
    "- > ",
    "targets",
]
COSTLY = (IN_PAGE / "costly.js").read_text()
COSTLY_LENGTH = 100_000
COSTLY_TASK_MS = 300
# What the longest task for plain text costs on the machine that the bound was set for.
PLAIN_TASK_MS = 20


@pytest.mark.parametrize("names", [WORST, pytest.param(None, marks=pytest.mark.heavy)])
async def test_no_answer_of_a_hundred_kilobytes_holds_up_a_page(
    shared: Shared, open_page: NewPage, names: list[str] | None
) -> None:
    """Each text is shown as after a reload. Plain text of the same length measures the machine."""
    page = await open_page(shared.server.url + "/docs/limits")
    devtools = await page.context.new_cdp_session(page)
    await tasks(page, devtools, COSTLY, [1_000, None])
    plain = max(task for _, task in await tasks(page, devtools, COSTLY, [COSTLY_LENGTH, ["word "]]))
    found = await tasks(page, devtools, COSTLY, [COSTLY_LENGTH, names])
    longest = max(task for _, task in found)
    print(f"plain text {plain:.0f} ms, the longest of {len(found)} tasks {longest:.0f} ms")
    assert longest < COSTLY_TASK_MS * max(1, plain / PLAIN_TASK_MS)


async def tasks(
    page: Page, devtools: CDPSession, script: str, values: Any = None, seconds: float = 0.1
) -> list[tuple[float, float]]:
    """The tasks of the main thread from a script's start until some seconds after its end: when
    each began, in seconds, and the processor's time that it took, in milliseconds.
    """
    events: list[dict[str, Any]] = []
    complete = asyncio.Event()
    devtools.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    devtools.on("Tracing.tracingComplete", lambda _: complete.set())
    await devtools.send("Tracing.start", {"categories": "toplevel", "transferMode": "ReportEvents"})
    await page.evaluate(script, values)
    await asyncio.sleep(seconds)
    await devtools.send("Tracing.end")
    await asyncio.wait_for(complete.wait(), 20)
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return [
        (event["ts"] / 1e6, event["tdur"] / 1000)
        for event in events
        if event["ph"] == "X" and (event["pid"], event["tid"]) in threads and "tdur" in event
    ]
