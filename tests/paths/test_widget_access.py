"""Tests the widget's accessibility: announcements, keyboard, touch, zoom and axe checks."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser import (
    AXE,
    AXE_RUN,
    IN_PAGE,
    MARKDOWN,
    SAMPLES,
    NewPage,
    ask,
    element,
    in_chromium,
    wait_for_end,
    wait_for_text,
)
from tests.paths.conftest import Shared

pytestmark = in_chromium

STREAM = (IN_PAGE / "stream.js").read_text()


async def test_an_answer_is_announced_once(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url)
    await page.evaluate(
        """() => {
          const root = document.querySelector("holdline-chat").shadowRoot;
          window.heard = [];
          const regions = "[role=status], [role=alert], [aria-live=polite]";
          for (const region of root.querySelectorAll(regions)) {
            new MutationObserver(() => heard.push(region.textContent))
              .observe(region, { childList: true, characterData: true, subtree: true });
          }
        }"""
    )
    prompt = shared.prompt("mode=slow tokens=60 pace=0.02")
    await ask(page, prompt)
    text = await wait_for_end(page)
    await page.wait_for_timeout(300)
    heard = [words for words in await page.evaluate("heard") if words]
    assert [f"The answer is complete: {text}"] == [words.strip() for words in heard]
    assert "off" == await page.locator("#turns, .log").first.get_attribute("aria-live")


async def test_enter_during_an_input_method_composition_does_not_send(
    shared: Shared, open_page: NewPage
) -> None:
    """Composes text with the browser's own input method, without its candidate window."""
    page = await open_page(shared.server.url)
    devtools = await page.context.new_cdp_session(page)
    field = page.locator("#prompt")
    prompt = shared.prompt("tokens=5")
    await field.fill(f"{prompt} ")
    await field.focus()
    await page.keyboard.press("End")
    await field.evaluate(
        """field => {
          window.keys = [];
          field.addEventListener("keydown", event => keys.push([event.key, event.isComposing]));
        }"""
    )
    composed = {"text": "にほん", "selectionStart": 3, "selectionEnd": 3}
    await devtools.send("Input.imeSetComposition", composed)
    await expect(field).to_have_value(f"{prompt} にほん")
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    await devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    await devtools.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    await devtools.send("Input.insertText", {"text": "日本"})
    await expect(field).to_have_value(f"{prompt} 日本")
    assert [["Enter", True]] == await page.evaluate("keys")
    await expect(page.locator("article.answer")).to_have_count(0)
    await page.keyboard.press("Enter")
    assert await wait_for_end(page) == shared.answer_to(f"{prompt} 日本")


async def test_the_widget_can_be_used_with_the_keyboard_alone(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    field = page.locator("#prompt")
    await field.focus()
    await page.keyboard.type("one")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("two")
    await expect(field).to_have_value("one\ntwo")
    await field.evaluate(
        "e => e.dispatchEvent(new KeyboardEvent('keydown',"
        " { key: 'Enter', isComposing: true, bubbles: true, cancelable: true }))"
    )
    await expect(field).to_have_value("one\ntwo")  # during a composition, Enter sends nothing
    prompt = shared.prompt("tokens=5")
    await field.fill(prompt)
    await page.keyboard.press("Enter")
    assert await wait_for_end(page) == shared.answer_to(prompt)
    await expect(field).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    reached = set()
    for _ in range(12):
        reached.add(
            await page.evaluate(
                "document.activeElement.shadowRoot?.activeElement?.className ?? 'out'"
            )
        )
        await page.keyboard.press("Shift+Tab")
    assert {"action edit", "action regenerate", "action copy", "log", "action fresh"} <= reached


@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed: make check installs it")
@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (1280, "light"),
        (360, "dark"),
        pytest.param(1280, "dark", marks=pytest.mark.heavy),
        pytest.param(360, "light", marks=pytest.mark.heavy),
    ],
)
async def test_axe_reports_no_violations_in_any_state_of_the_widget(
    shared: Shared, open_page: NewPage, scheme: str, width: int
) -> None:
    page = await open_page(
        shared.server.url, color_scheme=scheme, viewport={"width": width, "height": 800}
    )
    await page.evaluate(AXE.read_text())

    async def examine(state: str) -> None:
        assert [] == await page.evaluate(AXE_RUN), state

    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await examine("the beginning")
    await ask(page, shared.prompt("mode=slow tokens=900 pace=0.02"))
    await wait_for_text(page)
    await examine("writing")
    await page.click("#stop")
    await wait_for_end(page, "cancelled")
    await examine("stopped")
    await ask(page, shared.prompt("mode=400"))
    await wait_for_end(page, "failed")
    await examine("failed")
    await page.click("#plug")
    await expect(page.locator("#banner")).to_be_visible()
    await examine("without a connection")
    await element(page, "chat.mode = 'floating'")
    await expect(page.locator(".launcher")).to_be_visible()
    await examine("closed")
    await element(page, "chat.open()")
    await expect(page.locator(".panel")).to_be_visible()
    await examine("floating")
    turn = {
        "prompt": "Everything",
        "request": {"input": "Everything"},
        "key": "k",
        "at": 0,
        "responseId": "resp_1",
        "status": "completed",
        "text": "\n\n".join(SAMPLES),
        "note": "Done in 3 s",
        "model": "holdline-demo",
    }
    await page.evaluate(
        "turn => localStorage.setItem("
        "JSON.stringify(['holdline', `${location.origin}/`, '', '']), JSON.stringify([turn]))",
        turn,
    )
    await page.reload()
    await expect(page.locator("article.answer table")).to_be_visible()
    await page.evaluate(AXE.read_text())
    await examine("every kind of block")


async def test_touch_targets_are_at_least_44_pixels(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(
        shared.server.url, viewport={"width": 360, "height": 740}, has_touch=True
    )
    await ask(page, shared.prompt("tokens=5"))
    await wait_for_end(page)
    small = await page.evaluate(
        """() => [...document.querySelector("holdline-chat").shadowRoot.querySelectorAll("button")]
          .map(b => [b.className, b.getBoundingClientRect()])
          .filter(([, box]) => box.width > 0 && (box.width < 44 || box.height < 44))
          .map(([name, box]) => `${name} ${box.width}x${box.height}`)"""
    )
    assert [] == small


async def test_on_a_phone_the_widget_fills_the_screen_and_does_not_zoom(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url, viewport={"width": 360, "height": 740})
    await element(page, "chat.mode = 'floating'")
    await page.click(".launcher")
    box = await page.locator(".panel").bounding_box()
    assert {"x": 0, "y": 0, "width": 360, "height": 740} == box
    size = await page.locator("#prompt").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
    assert size >= 16  # with a smaller font, iOS zooms into the field


CUT_OFF = (IN_PAGE / "cut-off.js").read_text()


@pytest.mark.parametrize("mode", ["", "floating"])
@pytest.mark.parametrize("percent", [200, 400])
async def test_no_content_is_cut_off_at_high_zoom(
    shared: Shared, open_page: NewPage, percent: int, mode: str
) -> None:
    """Zooms a 1280 by 1024 viewport as a browser does, with fewer and larger CSS pixels.

    At 400 %, the viewport is 320 CSS pixels wide, as in WCAG 1.4.10. Pinch zoom is different: it
    does not change the layout.
    """
    share = percent / 100
    page = await open_page(
        shared.server.url,
        viewport={"width": int(1280 / share), "height": int(1024 / share)},
        device_scale_factor=share,
    )
    await element(page, f"chat.mode = '{mode}'")
    await element(page, "chat.open()")
    await ask(page, shared.prompt("say=" + "a_very_" * 30 + "long|`" + "code" * 40 + "`"))
    await wait_for_end(page)
    if not mode:
        await page.click("#plug")
        await expect(page.locator("#banner")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert [] == await page.evaluate(CUT_OFF)


async def test_reduced_motion_disables_all_animations(shared: Shared, open_page: NewPage) -> None:
    page = await open_page(shared.server.url, reduced_motion="reduce")
    await ask(page, shared.prompt("mode=slow tokens=600 pace=0.02"))
    await wait_for_text(page)
    running = "document.querySelector('holdline-chat').shadowRoot.getAnimations().length"
    assert 0 == await page.evaluate(running)
    await page.click("#stop")
    await wait_for_end(page, "cancelled")


async def test_content_scrolled_out_of_view_does_not_intercept_clicks(
    shared: Shared, open_page: NewPage
) -> None:
    """Blocks whose layout is deferred have boxes that overlap elements outside the log."""
    page = await open_page(shared.server.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await page.evaluate(STREAM, [MARKDOWN["chat"] * 40, 0.3])
    await element(page, "chat.conversation = 'long'")
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await element(page, "chat.send('go')")
    await wait_for_end(page)
    for share in (0, 0.5, 1):
        taken = await page.evaluate(
            """async share => {
              const chat = document.querySelector("holdline-chat");
              const log = chat.shadowRoot.querySelector(".log");
              log.scrollTop = share * (log.scrollHeight - log.clientHeight);
              await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
              const { left, top, right, bottom } = log.getBoundingClientRect();
              const taken = [];
              for (let x = 4; x < innerWidth; x += 24) for (let y = 4; y < innerHeight; y += 12) {
                if (x > left && x < right && y > top && y < bottom) continue;
                const inside = chat.shadowRoot.elementFromPoint(x, y);
                if (inside && log.contains(inside)) taken.push([x, y, inside.tagName]);
              }
              return taken;
            }""",
            share,
        )
        assert [] == taken
