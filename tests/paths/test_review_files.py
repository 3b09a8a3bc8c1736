"""Tests reviews of several files in Chromium: folders, diffs, live links, reloads, exports."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser, FilePayload, Page, expect

from tests.browser import AXE, AXE_RUN, in_chromium
from tests.paths.conftest import Shared
from tests.review_page import calls, visitor

pytestmark = in_chromium

# The answer of the fake model: a comment at line 1, one at a line that does not exist, and one
# without a line.
SAY = "Hi.||##_Improvements||-_more||##_Complexity||Flat.||##_Bugs||-_L1_(high):_one|-_L99:_far|"
REVIEW = f"say={SAY}"


async def choose(page: Page, files: dict[str, str]) -> None:
    await page.set_input_files(
        "#file",
        [
            FilePayload(name=name, mimeType="text/plain", buffer=text.encode())
            for name, text in files.items()
        ],
    )
    await expect(page.locator(".selection")).to_be_visible()


async def start(page: Page, files: dict[str, str]) -> None:
    await choose(page, files)
    await page.click(".go")
    await page.wait_for_url(re.compile("#resp_"))


async def wait_for_end(page: Page) -> None:
    await expect(page.locator(".board")).to_have_attribute("data-state", "ended", timeout=30_000)


def slow_files(shared: Shared, tokens: int) -> dict[str, str]:
    return {
        f"{name}.py": f"# {shared.prompt()} mode=slow pace=0.03 tokens={tokens}\n"
        for name in ("a", "b", "c")
    }


def marks(files: dict[str, str]) -> list[str]:
    return [text.split()[1] for text in files.values()]


def count(shared: Shared, files: dict[str, str]) -> list[int]:
    return [calls(shared, f"{mark} ") for mark in marks(files)]


async def test_a_folder_is_reviewed_file_by_file_with_comments_at_their_lines(
    shared: Shared, browser: Browser, tmp_path: Path
) -> None:
    page, watch = await visitor(browser, f"{shared.server.url}/review")
    mark = shared.prompt()
    for name, content in {
        "a.py": f"# {mark} {REVIEW}",
        "src/b.js": f"// {mark} {REVIEW}",
        "node_modules/c.js": "x",
        "yarn.lock": "x",
        ".env": "KEY=1",
        "d.txt": "",
        "e.txt": "\0\1",
    }.items():
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_text(content)
    await page.set_input_files("#folder", tmp_path / "top")
    names = page.locator(".selection-name")
    await expect(names).to_have_text(["top/a.py", "top/src/b.js"])
    await expect(page.locator(".selection-total")).to_contain_text("2 files found, 2 selected")
    for reason in (
        "in node_modules/: top/node_modules/c.js",
        "lock file: top/yarn.lock",
        "may contain secrets: top/.env",
        "empty: top/d.txt",
        "not text: top/e.txt",
    ):
        await expect(page.locator(".skipped")).to_contain_text(reason)
    await page.click(".go")
    await wait_for_end(page)
    panes = page.locator(".pane")
    for index, name in enumerate(("top/a.py", "top/src/b.js")):
        pane = panes.nth(index)
        await expect(pane.locator("h2")).to_have_text(name)
        comment = pane.locator(".rows .row:first-child + .comment")
        await expect(comment).to_have_text("highL1one")
        await expect(pane.locator(".at-file .comment")).to_have_text("mediumL99far")
        await expect(pane.locator(".card.improvements li")).to_have_text(["more"])
    await expect(page.locator(".summary")).to_have_text(
        "2 files reviewed, 4 comments: 2 high, 2 medium. Begin with top/a.py, top/src/b.js."
    )
    await page.locator(".file-link").nth(1).press("Enter")
    await expect(panes.nth(1).locator("h2")).to_be_focused()
    assert 2 == calls(shared, f"{mark} ")
    prompts = [call.prompt for call in shared.model.calls if f"{mark} " in call.prompt]
    assert ["```javascript top/src/b.js", "```python top/a.py"] == sorted(
        prompt.split("\n")[0] for prompt in prompts
    )
    async with page.expect_download() as download:
        await page.click("#save")
    exported = Path(await (await download.value).path()).read_text()
    assert "## top/a.py\n\n- L1 **high**: one\n- L99 **medium**: far\n\nHi.\n" in exported
    assert [] == watch.wrong


async def test_a_link_to_several_files_is_followed_live_and_only_to_be_read(
    shared: Shared, browser: Browser
) -> None:
    files = slow_files(shared, tokens=400)
    one, watch = await visitor(browser, f"{shared.server.url}/review")
    await start(one, files)
    await expect(one.locator("#audience")).to_contain_text("Anyone who has the link")
    other, other_watch = await visitor(browser, one.url)
    for index in range(3):
        pane = other.locator(".pane").nth(index)
        await expect(pane.locator(".preface")).to_contain_text("t5 ", timeout=20_000)
        await expect(pane.locator(".rows")).to_contain_text(marks(files)[index])
    await expect(other.locator(".board")).to_have_attribute("data-state", "running")
    for button in ("#stop", ".stop-one", ".again"):
        await expect(other.locator(button).first).to_be_hidden()
    await wait_for_end(one)
    await wait_for_end(other)
    assert await one.inner_text("#review .notes") == await other.inner_text("#review .notes")
    await expect(other.locator(".again").first).to_be_hidden()
    await expect(one.locator(".again").first).to_be_visible()
    assert [1, 1, 1] == count(shared, files)
    assert [] == watch.wrong + other_watch.wrong


async def test_reloads_continue_all_files_which_can_then_be_stopped(
    shared: Shared, browser: Browser
) -> None:
    files = slow_files(shared, tokens=400)
    page, watch = await visitor(browser, f"{shared.server.url}/review")
    await choose(page, files)
    async with page.expect_navigation():  # the reload begins before the requests are sent
        await page.evaluate("document.querySelector('#form').requestSubmit(); location.reload()")
    await page.wait_for_url(re.compile("#resp_"))
    for _ in range(2):
        await page.reload()
    for index in range(3):
        pane = page.locator(".pane").nth(index)
        await expect(pane.locator(".preface")).to_contain_text("t5 ", timeout=20_000)
    await page.locator(".stop-one").first.click()
    first = page.locator(".sections").first
    await expect(first).to_have_attribute("data-status", "cancelled")
    await expect(page.locator(".board")).to_have_attribute("data-state", "running")
    await page.click("#stop")
    await wait_for_end(page)
    await expect(page.locator(".summary")).to_contain_text("3 reviews did not finish.")
    assert [1, 1, 1] == count(shared, files)
    assert [] == watch.wrong


async def test_one_file_is_reviewed_again_also_after_a_reload(
    shared: Shared, browser: Browser
) -> None:
    files = {f"{n}.py": f"# {shared.prompt()} tokens=5\n" for n in "ab"}
    page, _ = await visitor(browser, f"{shared.server.url}/review")
    await start(page, files)
    for repeated in (2, 3):
        await wait_for_end(page)
        before = page.url
        await page.locator(".again").nth(1).click()
        await expect(page).not_to_have_url(before, timeout=20_000)
        assert before.split(",")[0] == page.url.split(",")[0]
        await wait_for_end(page)
        assert [1, repeated] == count(shared, files)
        await page.reload()
    await wait_for_end(page)
    assert [1, 3] == count(shared, files)


async def test_a_pasted_diff_is_reviewed_with_the_numbers_of_the_new_file(
    shared: Shared, browser: Browser
) -> None:
    page, watch = await visitor(browser, f"{shared.server.url}/review")
    mark = shared.prompt()
    say = "say=##_Bugs||-_L8_(low):_added|-_L3:_elsewhere|"
    await page.fill(
        "#code",
        "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -7,2 +7,2 @@ def f():\n"
        f" one\n-two\n+# {mark} {say}\n"
        "diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n"
        "@@ -1 +0,0 @@\n-x\n",
    )
    await expect(page.locator("#hint")).to_have_text(
        "This is a diff. 1 file of it will be reviewed. Not reviewed: deleted: gone."
    )
    await page.click(".go")
    await wait_for_end(page)
    await expect(page.locator(".rows .row.added + .comment")).to_have_text("lowL8added")
    await expect(page.locator(".at-file .comment")).to_have_text("mediumL3elsewhere")
    numbers = page.locator(".rows .number")
    assert ["", "7", "", "8"] == await numbers.evaluate_all("all => all.map(n => n.dataset.number)")
    (prompt,) = [call.prompt for call in shared.model.calls if mark in call.prompt]
    assert (
        "```diff x.py\n@@ -7,2 +7,2 @@ def f():\n     7  one\n       -two\n"
        f"     8 +# {mark} {say}\n```"
    ) == prompt
    late, late_watch = await visitor(browser, page.url)
    await expect(late.locator(".rows .row.added + .comment")).to_have_text("lowL8added")
    assert [] == watch.wrong + late_watch.wrong


async def test_the_limits_of_a_review_are_shown_before_anything_is_sent(
    shared: Shared, browser: Browser
) -> None:
    page, _ = await visitor(browser, f"{shared.server.url}/review")
    await choose(page, {f"f{n}.py": f"x = {n}" for n in range(32)} | {"big.py": "x" * 200_001})
    total = page.locator(".selection-total")
    await expect(total).to_contain_text("32 files found, 30 selected (at most 30)")
    await expect(page.locator(".skipped")).to_contain_text("larger than 200 KB: big.py")
    await page.locator(".selection input:not(:checked)").first.check()
    await page.click(".go")
    await expect(page.locator("#problem")).to_contain_text("at most 30 files. Deselect 1 of them.")
    await expect(page.locator("#form")).to_be_visible()
    await page.click("#clear")
    diff = "".join(f"--- f{n}\n+++ f{n}\n@@ -0,0 +1 @@\n+x\n" for n in range(31))
    await page.fill("#code", diff)
    await page.click(".go")
    await expect(page.locator("#problem")).to_contain_text("The diff has 31 files.")
    await expect(page.locator(".selection input:checked")).to_have_count(30)


async def test_a_link_whose_answers_were_deleted_says_so(shared: Shared, browser: Browser) -> None:
    page, _ = await visitor(browser, f"{shared.server.url}/review#resp_0000aaaa,resp_0000bbbb")
    await wait_for_end(page)
    await expect(page.locator(".review-note").first).to_contain_text("no longer keeps")
    await expect(page.locator(".summary")).to_contain_text("2 reviews did not finish.")


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make check installs it")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_reports_no_violations_in_a_review_of_files(
    shared: Shared, browser: Browser, scheme: str
) -> None:
    context = await browser.new_context(
        color_scheme=scheme,  # type: ignore[arg-type]
        viewport={"width": 390, "height": 780},
    )
    page = await context.new_page()
    await page.goto(f"{shared.server.url}/review")
    await choose(page, {f"{n}.py": f"# {shared.prompt(REVIEW)}\n" for n in "ab"} | {"c": ""})
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN), "the selection"
    await page.click(".go")
    await wait_for_end(page)
    assert [] == await page.evaluate(AXE_RUN), "the reviews"
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert 0 == await page.evaluate(wide)
