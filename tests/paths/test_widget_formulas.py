"""Tests that formulas are rendered as safe, limited MathML or else shown as their source."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from playwright.async_api import Page, Route, expect

from server.http.static import pages
from tests.browser import IN_PAGE, ROOT, NewPage, Watch, element, in_chromium, wait_for_end
from tests.paths.conftest import Shared

pytestmark = in_chromium

SAY = (IN_PAGE / "say.js").read_text()
TYPESET = (IN_PAGE / "typeset.js").read_text()
FORMULAS: dict[str, Any] = json.loads((ROOT / "tests" / "vectors" / "formulas.json").read_text())
REPEATED = [
    begin * times + ("x" if end else "") + end * times for begin, times, end in FORMULAS["repeated"]
]
# MathML Core attributes, except for those that can link elsewhere.
ATTRIBUTES = {
    *("accent", "accentunder", "data-written", "depth", "display", "displaystyle", "encoding"),
    *("fence", "height", "largeop", "linethickness", "lspace", "mathsize", "mathvariant"),
    *("maxsize", "minsize", "rspace", "scriptlevel", "separator", "stretchy", "style"),
    *("voffset", "width"),
}
SHOWN = r"""The roots of \(ax^2 + b = 0\), of $a_1$, not of $5 and $10, `$x$` or \$y$:

\[
x = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}
\]

- In a list \(\mathbb{R}\)

| $c_1$ |
|---|
| \(\href{https://evil.example}{x}\) |

# In a heading \(E\)

$$a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p + q + r + s + t + u + v + w + x$$

An end \(z^2"""
WRITTEN = [
    r"\(ax^2 + b = 0\)",
    "$a_1$",
    "\\[\nx = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}\n\\]",
    r"\(\mathbb{R}\)",
    "$c_1$",
    r"\(E\)",
    "$$" + " + ".join("abcdefghijklmnopqrstuvwx") + "$$",
]
LEFT = ["$x$", r"\(\href{https://evil.example}{x}\)", r"\(z^2"]
MATHS = "article.answer .text math"


async def show_answer(page: Page, text: str) -> None:
    """Shows an answer with the given text, sent by a simulated server inside the page."""
    content = [{"type": "output_text", "text": text}]
    item = {"type": "message", "id": "i", "content": content}
    event = {"type": "response.output_item.done", "output_index": 0, "item": item}
    await page.evaluate(SAY, [event])
    await element(page, "chat.conversation = 'formulas'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await element(page, "chat.send('go')")
    await wait_for_end(page)


async def scroll_through(page: Page) -> None:
    """Scrolls every block of the answer into view."""
    for block in await page.locator("article.answer .text > *").all():
        await block.scroll_into_view_if_needed()
        await page.wait_for_timeout(100)


async def test_formulas_in_an_answer_are_rendered_as_mathml(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url, viewport={"width": 375, "height": 700})
    await show_answer(page, SHOWN)
    await scroll_through(page)
    await expect(page.locator(MATHS)).to_have_count(len(WRITTEN), timeout=20_000)
    found = await page.locator(MATHS).evaluate_all(
        """maths => maths.map(math => [math.namespaceURI, math.getAttribute("data-written"),
          math.querySelector("annotation").textContent, math.getAttribute("display"),
          math.firstChild.firstChild.getBoundingClientRect().height > 5])"""
    )
    assert WRITTEN == [written for _, written, *_ in found]
    for namespace, written, tex, display, drawn in found:
        assert "http://www.w3.org/1998/Math/MathML" == namespace
        assert tex == written.strip("$") if written[0] == "$" else tex == written[2:-2]
        assert drawn
        assert (display == "block") == (written[:2] in {r"\[", "$$"})
    assert LEFT == await page.locator("article.answer .text code").all_text_contents()
    # A formula that is too wide can be scrolled sideways, also with the keyboard. The log itself
    # cannot.
    wide = page.get_by_role("group", name="Formula")
    await expect(wide).to_have_count(1, timeout=20_000)
    assert "0" == await wide.get_attribute("tabindex")
    log = await page.locator(".log").evaluate("log => log.scrollWidth - log.clientWidth")
    assert 0 == log


async def test_formulas_are_copied_and_announced_as_source(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await show_answer(page, "So \\(a_1\\) and\n\n$$b^2$$\n\nend.")
    await expect(page.locator(MATHS)).to_have_count(2, timeout=20_000)
    await page.click("button.copy")
    copied = "navigator.clipboard.readText()"
    assert "So \\(a_1\\) and\n\n$$b^2$$\n\nend." == await page.evaluate(copied)
    select = """(text, [from, to]) => getSelection().setBaseAndExtent(
      from(text), 0, to(text), to(text).childNodes.length || to(text).length)"""
    for begin, end, expected in (
        ("text => text", "text => text", "So \\(a_1\\) and\n\n$$b^2$$\n\nend."),
        (
            "text => text.querySelector('mi').firstChild",
            "text => text.querySelector('mn').firstChild",
            "\\(a_1\\)",
        ),
        ("text => text.lastChild", "text => text.lastChild", "end."),
    ):
        await page.locator("article.answer .text").evaluate(
            f"text => ({select})(text, [{begin}, {end}])"
        )
        await page.keyboard.press("Control+C")
        assert expected == await page.evaluate(copied)
    await expect(page.locator("p.unseen[role=status]")).to_contain_text(
        "So \\(a_1\\) and $$b^2$$ end."
    )


async def test_a_modified_typesetter_never_runs_and_formulas_stay_source(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(f"{shared.server.url}/livez")

    async def change(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, body=f"window.pwned = 1; {await answer.text()}")

    await page.route("**/typeset.js*", change)
    await page.goto(shared.server.url)
    async with page.expect_event("console", lambda told: "valid digest" in told.text):
        await show_answer(page, "So \\(a_1\\), $b$")
    await page.wait_for_timeout(200)
    codes = await page.locator("article.answer .text code").all_text_contents()
    assert ["\\(a_1\\)", "$b$"] == codes
    assert await page.evaluate("window.pwned === undefined")
    watch: Watch = page.watch  # type: ignore[attr-defined]
    assert [] == [text for text in watch.wrong if "valid digest" not in text]
    watch.wrong.clear()


async def test_no_formula_runs_or_loads_anything(shared: Shared, open_page: NewPage) -> None:
    """The bundled typesetter produces the same markup as its source and rejects bad formulas."""
    page = await open_page(shared.server.url)
    urls = ["/web/typeset.js", f"/web/{pages().version}/typeset.js"]
    source, packed = [await page.evaluate(TYPESET, [url, FORMULAS["shown"]]) for url in urls]
    markups = [[made["markup"] for made in found] for found in (source, packed)]
    assert markups[0] == markups[1]
    for tex, made in zip(FORMULAS["shown"], packed, strict=True):
        assert not made["refused"], tex
        assert set(made["attributes"]) <= ATTRIBUTES, tex
        assert made["height"] < 3_000, tex
        assert made["width"] < 3_000, tex
    refused = await page.evaluate(TYPESET, [urls[1], FORMULAS["refused"]])
    assert [] == [
        tex for tex, made in zip(FORMULAS["refused"], refused, strict=True) if not made["refused"]
    ]
    assert await page.evaluate("window.pwned === undefined")


async def test_large_and_deep_formulas_have_bounded_cost(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    for tex in REPEATED:
        (made,) = await page.evaluate(TYPESET, ["/web/typeset.js", [tex]])
        print(f"{tex[:20]:<20} {made['ms']:>7.0f} ms, refused: {made['refused']}")
        assert made["ms"] < 2_000, tex[:20]
        assert made["elements"] <= 5_100


async def test_a_thousand_formulas_keep_the_page_responsive(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    text = "\n\n".join(
        f"So \\(x_{{{n}}} = \\frac{{a}}{{b}}\\), ${n}x$ and $$\\sum_{{i=1}}^{{{n}}} i$$"
        for n in range(333)
    )
    await page.evaluate(
        """() => {
          window.longest = 0;
          new PerformanceObserver(list => list.getEntries().forEach(({ duration }) =>
            window.longest = Math.max(longest, duration))).observe({ type: "longtask" });
        }"""
    )
    async with asyncio.timeout(30):
        await show_answer(page, "\\(" + "x" * 100_000 + f"\\)\n\n{text}")
    await expect(page.locator(MATHS).first).to_be_attached(timeout=20_000)
    await page.wait_for_timeout(500)
    made = await page.locator(MATHS).count()
    print(f"{made} formulas rendered, longest task {await page.evaluate('longest')} ms")
    # Formulas outside the visible area are not rendered yet.
    assert made < 200
    assert await page.evaluate("longest") < 1_000
    block = page.locator("article.answer .text > *").nth(150)
    await block.scroll_into_view_if_needed()
    await expect(block.locator("math")).to_have_count(3, timeout=20_000)
