"""Tests how answers are rendered: streamed Markdown, safe nodes and links, thoughts and sources."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser import (
    HOSTILE,
    IN_PAGE,
    ROOT,
    SAMPLES,
    NewPage,
    ask,
    element,
    in_chromium,
    wait_for_end,
)
from tests.paths.conftest import Shared

pytestmark = in_chromium


DRAW = (IN_PAGE / "draw.js").read_text()

FOUND = (IN_PAGE / "found.js").read_text()


@pytest.mark.parametrize("chunk", [0, 1, 7])
async def test_hostile_answers_run_and_load_nothing(
    shared: Shared, open_page: NewPage, chunk: int
) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(DRAW, [HOSTILE, chunk])
    await page.wait_for_timeout(300)
    assert [] == await page.evaluate(FOUND)
    assert await page.evaluate("window.pwned === undefined")


async def test_a_hostile_answer_is_harmless_end_to_end(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await ask(
        page,
        shared.prompt(
            "say=<img_src=x_onerror=window.pwned=1>__![x](https://evil.example/?q=secret)"
            "[y](javascript:window.pwned=1)"
        ),
    )
    text = await wait_for_end(page)
    assert "<img src=x onerror=window.pwned=1>" in text
    assert "Image: x (evil.example)" in text
    assert 1 == await page.locator("article.answer a").count()
    await page.wait_for_timeout(200)
    assert await page.evaluate("window.pwned === undefined")


async def test_deeply_nested_markdown_renders_within_a_time_limit(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    deep = [">" * 20_000, "- " * 5_000, "[" * 20_000, "*a " * 10_000, "`" * 20_001, "<" * 20_000]
    began = await page.evaluate("performance.now()")
    await page.evaluate(DRAW, [deep, 0])
    assert await page.evaluate("performance.now()") - began < 10_000


DOCUMENT = (ROOT / "docs" / "protocol.md").read_text()


@pytest.mark.parametrize("chunk", [1, 3, 50])
async def test_streamed_markdown_renders_like_complete_markdown(
    shared: Shared, open_page: NewPage, chunk: int
) -> None:
    page = await open_page(shared.server.url)
    samples = [*SAMPLES, DOCUMENT[:6_000]]
    grown = await page.evaluate(DRAW, [samples, chunk])
    assert await page.evaluate(DRAW, [samples, 0]) == grown


async def test_a_long_answer_is_rendered_in_pieces(shared: Shared, open_page: NewPage) -> None:
    """Lists are split between items, code is not split, and links find targets in other pieces."""
    page = await open_page(shared.server.url)
    items = "".join(f"{number}. item {number} {'x ' * 20}\n" for number in range(1, 1_001))
    code = "```\n" + "line\n" * 10_000 + "```\n"
    answer = f"[a][later]\n\n{items}\n{code}\n[later]: https://holdline.example/"
    (drawn,) = await page.evaluate(DRAW, [[answer], 0])
    assert [f"item {number} " in drawn for number in (1, 500, 1_000)] == [True] * 3
    assert 1_000 == drawn.count("<li")
    assert len(re.findall(r"<ol[^>]* start=", drawn)) > 2
    assert 1 == drawn.count("<pre")
    assert 10_000 == drawn.count("line\n") + drawn.count("line<")
    assert 1 == drawn.count('href="https://holdline.example/"')


async def test_finished_blocks_are_not_rendered_again(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    removed = await page.evaluate(
        """async text => {
          const { Markdown } = await import("/web/markdown.js");
          const { STATUS } = await import("/web/status.js");
          const place = document.createElement("div");
          document.body.append(place);
          const markdown = new Markdown(place, STATUS);
          let added = 0, removed = 0;
          const observer = new MutationObserver(records => records.forEach(record => {
            added += record.addedNodes.length;
            removed += record.removedNodes.length;
          }));
          observer.observe(place, { childList: true, subtree: true });
          for (let end = 0; end < text.length; end += 5) {
            markdown.show(text.slice(0, end), false);
            await null;
          }
          markdown.show(text, true);
          await new Promise(done => setTimeout(done));
          return removed / added;
        }""",
        SAMPLES[0] * 3 + SAMPLES[2],
    )
    assert removed < 0.35


async def test_code_is_highlighted_when_it_is_complete_and_in_view(
    shared: Shared, open_page: NewPage
) -> None:
    """Code outside the window is not highlighted, because a fast answer may scroll past it."""
    page = await open_page(shared.server.url)
    await page.evaluate(DRAW, [["```python\ndef f():\n    return 'x'\n```\n"], 1])
    code = page.locator("body > div:last-child code.code-text")
    await page.wait_for_timeout(300)
    await expect(code.locator(".hl-keyword")).to_have_count(0)
    await code.scroll_into_view_if_needed()
    await expect(code.locator(".hl-keyword").first).to_have_text("def")
    assert "def f():\n    return 'x'" == await code.inner_text()


SAY = (IN_PAGE / "say.js").read_text()
BESIDE = json.loads((ROOT / "tests" / "vectors" / "aside.json").read_text())


@pytest.mark.parametrize("case", BESIDE, ids=lambda case: case["name"])
async def test_thoughts_tools_refusals_and_sources_are_shown(
    shared: Shared, open_page: NewPage, case: dict[str, Any]
) -> None:
    """Thoughts can be expanded, tools are named, a refusal is text, and sources are links."""
    page = await open_page(shared.server.url)
    await page.evaluate(SAY, case["events"])
    await element(page, "chat.conversation = 'beside'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await element(page, "chat.send('go')")
    marks = (case["aside"] or {}).get("marks", [])  # the vectors cite only at the end of a text
    assert case["text"] + "".join(f"[{n}]" for _, n in marks) == await wait_for_end(page)
    assert case["text"] == (await element(page, "chat.turns"))[0]["text"]
    await check_aside(page, case["aside"])
    await page.reload()
    await element(page, "chat.conversation = 'beside'")
    await expect(page.locator("article.answer")).to_have_attribute("data-status", "completed")
    await check_aside(page, case["aside"])


async def check_aside(page: Page, aside: dict[str, Any] | None) -> None:
    if aside is None:
        await expect(page.locator(".aside")).to_have_count(0)
        return
    details = page.locator("details.thinking")
    if aside["thoughts"]:
        await expect(details.locator("summary")).to_have_text("Thinking")
        await expect(page.locator(".thoughts")).to_be_hidden()
        await details.locator("summary").click()
        await expect(page.locator(".thoughts")).to_have_text(aside["thoughts"])
    else:
        await expect(details).to_be_hidden()
    await expect(page.locator(".tool-name")).to_have_text([call["name"] for call in aside["tools"]])
    states = ["done" if call["callId"] is None else "waiting" for call in aside["tools"]]
    await expect(page.locator(".tool-state")).to_have_text(states)
    for index, call in enumerate(aside["tools"]):
        tool = page.locator(".tool").nth(index)
        await tool.locator("summary").click()
        texts = [call["input"]] if call["input"] else []
        await expect(tool.locator(".tool-text")).to_have_text(texts)
    await expect(page.locator(".refusal")).to_have_text(aside["refusal"])
    if others := aside.get("others"):
        told = f"Not shown here: {', '.join(others)}"
        await expect(page.locator(".others")).to_have_text(told)
    else:
        await expect(page.locator(".others")).to_be_hidden()
    await expect(page.locator("article.answer img")).to_have_count(0)
    links = page.locator(".sources a")
    await expect(links).to_have_count(len(aside["sources"]))
    for index, source in enumerate(aside["sources"]):
        await expect(links.nth(index)).to_have_attribute("href", source["url"])
        await expect(links.nth(index)).to_have_attribute("rel", "noopener noreferrer nofollow")
        await expect(links.nth(index)).to_contain_text(source["title"])


FORMULAS = [
    (
        "The roots are\n\\[\nx_1 = \\frac{-b}{2a}, x_2 = a_1 * b_1 * c_1\n\\]\n"
        "and inline \\(a_1 + b_1\\) and $$E_k = m_1 * v_1 * 2$$ end."
    ),
    (
        "\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}, \\{x\\}, a\\,b\n\\]\n\n"
        "$$f(x)=a*b*c + x_{1}_y_{2}_z$$ and $a_{i}*b_{i}*c$ in `$x*y*z$`"
    ),
    (
        "- One: $x_1 * y_1$\n- two: **\\(a*b\\)**\n\n"
        "# The \\(a_1*b_1\\)\n\n| $c_1$ |\n|---|\n| $*d*$ |"
    ),
    "It costs $5 and $6, *or* US$7 and 8$",
]
SHOWN = [
    [
        "\\[\nx_1 = \\frac{-b}{2a}, x_2 = a_1 * b_1 * c_1\n\\]",
        "\\(a_1 + b_1\\)",
        "$$E_k = m_1 * v_1 * 2$$",
    ],
    [
        "\\[\n\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}, \\{x\\}, a\\,b\n\\]",
        "$$f(x)=a*b*c + x_{1}_y_{2}_z$$",
        "$a_{i}*b_{i}*c$",
        "$x*y*z$",
    ],
    ["$x_1 * y_1$", "\\(a*b\\)", "\\(a_1*b_1\\)", "$c_1$", "$*d*$"],
    [],
]


async def test_a_formula_is_shown_as_source_however_it_was_chunked(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    whole = await page.evaluate(DRAW, [FORMULAS, 0])
    for chunk in (1, 7):
        assert whole == await page.evaluate(DRAW, [FORMULAS, chunk])
    for html, shown in zip(whole, SHOWN, strict=True):
        codes = [unescape(code) for code in re.findall(r"<code>(.*?)</code>", html, re.DOTALL)]
        assert shown == codes
