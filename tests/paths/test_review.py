"""Tests the code review page in Chromium: streamed sections, marked lines, shared reviews."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.browser import AXE, AXE_RUN, IN_PAGE, in_chromium
from tests.paths.conftest import Shared
from tests.review_page import calls, visitor

pytestmark = in_chromium

# The snippet contains the script that controls the fake model.
SNIPPET = "def f(x):\n    # {script}\n    return x\n"


async def submit(page: Page, code: str) -> None:
    await page.fill("#code", code)
    await page.click(".go")


async def wait_for_end(page: Page, status: str = "completed") -> None:
    sections = page.locator(".sections")
    await expect(sections).to_have_attribute("data-status", status, timeout=30_000)


async def test_a_review_can_be_followed_live_by_its_link(shared: Shared, browser: Browser) -> None:
    mark = shared.prompt()
    one, watch = await visitor(browser, f"{shared.server.url}/review")
    script = f"{mark} mode=slow pace=0.03 tokens=200"
    await submit(one, SNIPPET.format(script=script))
    await one.wait_for_url(re.compile("#resp_"))
    other, other_watch = await visitor(browser, one.url)
    await expect(other.locator(".listing")).to_contain_text("def f(x):")
    text = ".preface"
    await expect(other.locator(text)).to_contain_text("t9 ", timeout=20_000)
    await expect(other.locator(".sections")).to_have_attribute("data-status", "in_progress")
    await expect(other.locator("#stop")).to_be_hidden()
    await wait_for_end(one)
    await wait_for_end(other)
    assert await one.inner_text(text) == await other.inner_text(text)
    assert 1 == calls(shared, mark)
    assert [] == watch.wrong + other_watch.wrong


@pytest.mark.heavy
async def test_the_same_snippet_joins_the_running_review_without_a_second_call(
    shared: Shared, browser: Browser
) -> None:
    mark = shared.prompt()
    snippet = SNIPPET.format(script=f"{mark} mode=slow pace=0.03 tokens=100")
    pages = [(await visitor(browser, f"{shared.server.url}/review"))[0] for _ in range(3)]
    await asyncio.gather(*(submit(page, snippet) for page in pages))
    for page in pages:
        await wait_for_end(page)
    assert 1 == len({page.url for page in pages})
    assert 1 == calls(shared, mark)
    late, _ = await visitor(browser, f"{shared.server.url}/review")
    await submit(late, snippet)
    await wait_for_end(late)
    assert 1 == calls(shared, mark)
    await late.click(".again")
    await expect(late.locator(".sections")).to_have_attribute("data-status", "in_progress")
    await wait_for_end(late)
    assert 2 == calls(shared, mark)


async def test_a_reload_in_mid_review_continues_the_review(
    shared: Shared, browser: Browser
) -> None:
    mark = shared.prompt()
    page, watch = await visitor(browser, f"{shared.server.url}/review")
    await submit(page, SNIPPET.format(script=f"{mark} mode=slow pace=0.03 tokens=120"))
    for wait in (0.0, 0.4, 0.9):
        await asyncio.sleep(wait)
        await page.reload()
    await wait_for_end(page)
    await expect(page.locator(".preface")).to_contain_text("t119")
    assert 1 == calls(shared, mark)
    assert [] == watch.wrong


async def test_a_reload_during_which_the_request_is_accepted_continues_the_review(
    shared: Shared, browser: Browser
) -> None:
    """The reload loads the old address, although the page replaces it in the meantime."""
    mark = shared.prompt()
    page, watch = await visitor(browser, f"{shared.server.url}/review")
    accepted = asyncio.Event()

    async def hold(route: Route) -> None:
        await accepted.wait()
        await route.continue_()

    await page.route("**/review", hold)
    await page.fill("#code", SNIPPET.format(script=f"{mark} mode=slow pace=0.03 tokens=60"))
    async with page.expect_navigation(wait_until="load"):
        await page.evaluate("document.querySelector('#form').requestSubmit(); location.reload()")
        await page.wait_for_url(re.compile("#resp_"), wait_until="commit")
        accepted.set()
    await wait_for_end(page)
    await expect(page.locator(".preface")).to_contain_text("t59")
    await page.reload()
    await wait_for_end(page)
    await page.click("nav >> text=Code review")
    await expect(page.locator("#form")).to_be_visible()
    await page.reload()
    await expect(page.locator("#form")).to_be_visible()
    assert 1 == calls(shared, mark)
    assert [] == watch.wrong


async def test_a_reload_continues_a_repeated_review(shared: Shared, browser: Browser) -> None:
    mark = shared.prompt()
    page, _ = await visitor(browser, f"{shared.server.url}/review")
    await submit(page, SNIPPET.format(script=f"{mark} tokens=3"))
    await wait_for_end(page)
    first = page.url
    async with page.expect_navigation():  # the reload begins before the request is sent
        await page.evaluate("document.querySelector('.again').click(); location.reload()")
    await page.wait_for_url(lambda url: "#resp_" in url and url != first)
    await wait_for_end(page)
    assert 2 == calls(shared, mark)


async def test_a_running_review_does_not_replace_the_address_of_other_code(
    shared: Shared, browser: Browser
) -> None:
    mark = shared.prompt()
    page, _ = await visitor(browser, f"{shared.server.url}/review")
    await submit(page, SNIPPET.format(script=f"{mark} mode=slow pace=0.05 tokens=200"))
    await expect(page.locator(".preface")).to_contain_text("t3 ", timeout=20_000)
    await page.click("#other")
    await submit(page, SNIPPET.format(script=f"{shared.prompt()} mode=slow pace=0.05 tokens=40"))
    await expect(page.locator(".preface")).to_contain_text("t3 ", timeout=20_000)
    addresses = await page.evaluate(
        """async () => {
          const seen = new Set();
          while (document.querySelector(".sections").dataset.status !== "completed") {
            seen.add(location.hash);
            await new Promise(requestAnimationFrame);
          }
          return [...seen];
        }"""
    )
    assert 1 == len(addresses)


async def test_a_stopped_a_failed_and_an_expired_review_are_explained(
    shared: Shared, browser: Browser
) -> None:
    page, _ = await visitor(browser, f"{shared.server.url}/review")
    await submit(page, SNIPPET.format(script=f"{shared.prompt()} mode=slow pace=0.05 tokens=900"))
    await expect(page.locator(".preface")).to_contain_text("t3 ", timeout=20_000)
    await page.click("#stop")
    await wait_for_end(page, "cancelled")
    await expect(page.locator(".review-note")).to_have_text("Stopped. This is the answer so far.")
    await page.click("#other")
    await expect(page.locator("#code")).to_be_focused()
    await submit(page, SNIPPET.format(script=f"{shared.prompt()} mode=400"))
    await wait_for_end(page, "failed")
    await expect(page.locator(".review-note")).to_contain_text("You can ask again.")
    gone, _ = await visitor(browser, f"{shared.server.url}/review#resp_0000aaaa")
    await wait_for_end(gone, "failed")
    await expect(gone.locator(".review-note")).to_contain_text("no longer keeps")


SECTIONS = (IN_PAGE / "sections.js").read_text()


async def test_review_sections_fill_in_order_and_link_to_lines(
    shared: Shared, browser: Browser
) -> None:
    page, watch = await visitor(browser, f"{shared.server.url}/review")
    await page.evaluate(SECTIONS)
    states = list(dict.fromkeys(await page.evaluate("states")))
    assert ["www", "dww", "ddw"] == states
    comments = page.locator(".rows .comment")
    assert ["low L1 name it", "high L4 no <b>"] == [
        " ".join(text.split()).replace(" Copy - L2: code", "")
        for text in await comments.all_inner_texts()
    ]
    above = "element => element.previousElementSibling.textContent"
    assert ["a", "d"] == [await comments.nth(n).evaluate(above) for n in range(2)]
    await expect(comments.nth(1).locator("pre")).to_have_text("- L2: code\n")
    await expect(page.locator(".at-file .comment")).to_have_text("mediumL9-12there is no such line")
    await expect(page.locator(".card.improvements li")).to_have_text(["no line"])
    await expect(page.locator(".card.bugs li")).to_have_text(["HTML5 and L99 are fine"])
    await expect(page.locator(".card.bugs .points")).to_have_text("2 comments at their lines")
    await expect(page.locator(".notes .line-link")).to_have_text(["lines 2 to 3", "L99"])
    await page.click("text=lines 2 to 3")
    await expect(page.locator(".listing")).to_have_attribute("data-marked", "2-3")
    await page.click("text=L99")  # refers to a line beyond the end of the snippet
    await expect(page.locator(".listing")).to_have_attribute("data-marked", "4")
    assert 0 == await page.locator(".card b, .comment b").count()
    assert [] == watch.wrong


async def test_a_dropped_file_is_loaded_and_its_language_detected(
    shared: Shared, browser: Browser
) -> None:
    page, _ = await visitor(browser, f"{shared.server.url}/review")
    mark = shared.prompt("tokens=3")
    await page.evaluate(
        """([name, text]) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([Uint8Array.from(text, c => c.charCodeAt(0))], name));
          document.querySelector("#form").dispatchEvent(
            new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        ["a.rs", f"// {mark} \x80"],
    )
    await expect(page.locator("#code")).to_have_value(f"// {mark} €")
    await page.click(".go")
    await wait_for_end(page)
    prompts = [call.prompt for call in shared.model.calls if mark in call.prompt]
    assert [f"```rust a.rs\n// {mark} €\n```"] == prompts


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make check installs it")
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.heavy)])
async def test_axe_reports_no_violations(shared: Shared, browser: Browser, scheme: str) -> None:
    context = await browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    for path in ("/review", "/docs/protocol"):
        await page.goto(f"{shared.server.url}{path}")
        await expect(page.locator("h1")).to_be_visible()
        await page.evaluate(AXE.read_text())
        assert [] == await page.evaluate(AXE_RUN), path
    await page.goto(f"{shared.server.url}/review")
    await submit(page, SNIPPET.format(script=shared.prompt("tokens=20")))
    await wait_for_end(page)
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN), "a review"
