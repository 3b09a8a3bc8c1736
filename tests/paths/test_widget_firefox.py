"""Tests the widget in a real Firefox, under the page's own content security policy.

After any fault, the page must finally show the text in the log exactly once.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from tests.browser import HOSTILE, IN_PAGE, MARKDOWN, SAMPLES
from tests.firefox import Firefox, needs_firefox
from tests.paths.conftest import Shared
from tests.system import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180), needs_firefox]

DRAW = (IN_PAGE / "draw.js").read_text()
ANSWERS = """() => {
  const root = document.querySelector("holdline-chat").shadowRoot;
  return [...root?.querySelectorAll("article.answer") ?? []].map(answer =>
    [answer.dataset.status, answer.querySelector(".text").textContent.trim()]);
}"""


@pytest.fixture
async def firefox() -> AsyncIterator[Firefox]:
    """Yields a Firefox. Errors on its last page fail the test."""
    async with Firefox() as firefox:
        yield firefox
        assert [] == await firefox.run("() => window.wrong")
        # The browser itself logs these messages, for each socket that was disconnected.
        errors = [line for line in firefox.console if line.startswith("error:")]
        assert [] == [line for line in errors if "ws://" not in line]


async def wait_for_end(firefox: Firefox, seconds: float = 60) -> list[tuple[str, str]]:
    """Waits until no answer is running. Returns the status and text of each answer."""

    async def all_ended() -> list[tuple[str, str]] | None:
        answers = [(status, text) for status, text in await firefox.run(ANSWERS)]
        over = answers and answers[-1][0] in {"completed", "cancelled", "failed", "incomplete"}
        return answers if over else None

    answers: list[tuple[str, str]] = await wait_until(all_ended, seconds)
    return answers


async def ask(firefox: Firefox, prompt: str) -> None:
    """Types and sends a prompt as a visitor does."""
    await firefox.run(
        """async () => {
          const chat = document.querySelector("holdline-chat");
          const built = () => chat.shadowRoot?.querySelector("#prompt");
          while (!built()) await new Promise(done => setTimeout(done, 20));
          built().focus();
        }"""
    )
    await firefox.type(f"{prompt}\n")


async def test_an_answer_survives_reloads_and_a_lost_connection_in_firefox(
    shared: Shared, firefox: Firefox
) -> None:
    rng = random.Random(11)
    await firefox.goto(shared.server.url)
    prompt = shared.prompt("mode=slow tokens=200 pace=0.03")
    await ask(firefox, prompt)
    for _ in range(4):
        await asyncio.sleep(rng.uniform(0.0, 0.8))  # reload at a random point of the answer
        await firefox.reload()
    await firefox.run("() => document.querySelector('#plug').click()")
    answers = await wait_for_end(firefox)
    assert [("completed", shared.answer_to(prompt))] == answers
    again = shared.prompt("tokens=20")
    await ask(firefox, again)
    answers = await wait_for_end(firefox)
    while len(answers) < 2:
        answers = await wait_for_end(firefox)
    assert shared.answer_to(again) == answers[1][1]


async def test_hostile_answers_run_and_load_nothing_in_firefox(
    shared: Shared, firefox: Firefox
) -> None:
    """The page's own content security policy applies, with Trusted Types if Firefox has them."""
    found = (IN_PAGE / "found.js").read_text()
    await firefox.goto(shared.server.url)
    for chunk in ("0", "7"):
        await firefox.run(
            f"async (answers, chunk) => void await ({DRAW})([JSON.parse(answers), +chunk])",
            json.dumps(HOSTILE),
            chunk,
        )
        await asyncio.sleep(0.3)  # wait until an injected script would have run
        assert [] == await firefox.run(found)
    assert await firefox.run("() => window.pwned === undefined")


@pytest.mark.heavy
async def test_streamed_markdown_renders_like_complete_markdown_in_firefox(
    shared: Shared, firefox: Firefox
) -> None:
    await firefox.goto(shared.server.url)
    draw = f"(answers, chunk) => ({DRAW})([JSON.parse(answers), +chunk])"
    whole = await firefox.run(draw, json.dumps(SAMPLES), "0")
    assert whole == await firefox.run(draw, json.dumps(SAMPLES), "3")


STREAM = (IN_PAGE / "stream.js").read_text()
FOLLOWED = """async () => {
  const chat = document.querySelector("holdline-chat");
  await new Promise(done => {
    chat.addEventListener("state", ({ detail }) => detail.state === "open" && done());
    chat.conversation = "long";
  });
  const log = chat.shadowRoot.querySelector(".log");
  chat.send("go");
  const far = [];
  while (chat.turns[0].status !== "completed") {
    await new Promise(done => requestAnimationFrame(done));
    far.push(log.scrollHeight - log.scrollTop - log.clientHeight);
  }
  const keyword = () => [...log.querySelectorAll(".code-text")].at(-1).querySelector(".hl-keyword");
  while (!keyword()) await new Promise(done => setTimeout(done, 20));
  return [far.length, Math.round(Math.max(...far)), keyword().textContent];
}"""


async def test_the_end_of_an_answer_stays_in_view_and_its_code_is_highlighted(
    shared: Shared, firefox: Firefox
) -> None:
    await firefox.goto(shared.server.url)
    await firefox.run(f"text => ({STREAM})([text, 2])", MARKDOWN["chat"] * 20)
    frames, far, keyword = await firefox.run(FOLLOWED)
    assert frames > 2
    assert far <= 1
    assert "for" == keyword


async def test_a_scroll_that_layout_causes_is_not_taken_for_the_reader(
    shared: Shared, firefox: Firefox
) -> None:
    await firefox.goto(shared.server.url)
    assert [0, True] == await firefox.run((IN_PAGE / "anchored.js").read_text())


FORMULAS = """async () => {
  const chat = document.querySelector("holdline-chat");
  await new Promise(done => {
    chat.addEventListener("state", ({ detail }) => detail.state === "open" && done());
    chat.conversation = "formulas";
  });
  chat.send("go");
  const text = () => chat.shadowRoot.querySelector(".answer .text");
  while (!text()?.querySelectorAll("math")[1]) await new Promise(done => setTimeout(done, 20));
  const maths = [...text().querySelectorAll("math")];
  return maths.map(math => math.namespaceURI);
}"""


# A listener on the page reads the copied data. The real clipboard is not used, because it belongs
# to the desktop.
COPIED = """async (begin, end) => {
  const text = document.querySelector("holdline-chat").shadowRoot.querySelector(".answer .text");
  const [from, to] = [begin, end].map(path => path ? text.querySelector(path).firstChild : text);
  getSelection().setBaseAndExtent(from, 0, to, to.length ?? to.childNodes.length);
  let copied = null;
  const read = ({ clipboardData }) => (copied = clipboardData.getData("text/plain"));
  addEventListener("copy", read, { once: true });
  document.execCommand("copy");
  return copied;
}"""


@pytest.mark.heavy
async def test_formulas_are_mathml_and_are_copied_as_source(
    shared: Shared, firefox: Firefox
) -> None:
    text = "So \\(a_1\\) and\n\n$$b^2$$\n\nend."
    content = [{"type": "output_text", "text": text}]
    item = {"type": "message", "id": "i", "content": content}
    event = {"type": "response.output_item.done", "output_index": 0, "item": item}
    await firefox.goto(shared.server.url)
    say = (IN_PAGE / "say.js").read_text()
    await firefox.run(f"events => ({say})(JSON.parse(events))", json.dumps([event]))
    assert ["http://www.w3.org/1998/Math/MathML"] * 2 == await firefox.run(FORMULAS)
    assert text == await firefox.run(COPIED, "", "")
    assert "\\(a_1\\)" == await firefox.run(COPIED, "mi", "mn")
