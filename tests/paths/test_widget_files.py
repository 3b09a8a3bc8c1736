"""Tests images and files in prompts: how they are attached, bounded, sent and kept."""

from __future__ import annotations

import re
from typing import Any

from playwright.async_api import FilePayload, Page, expect

from tests.browser import (
    AXE,
    AXE_RUN,
    IN_PAGE,
    NewPage,
    ask,
    element,
    in_chromium,
    wait_for_end,
)
from tests.paths.conftest import Shared
from tests.system import System, wait_until

pytestmark = in_chromium

FILES = (IN_PAGE / "files.js").read_text()
SIZE = re.compile(r"^\d+ kB of 762 kB$")
LIMIT = "Attach images and files, together up to 88 kB"
PHOTO = ["photo.jpg", "image/jpeg", 3000, 2000]
PDF: FilePayload = {
    "name": "recipe.pdf",
    "mimeType": "application/pdf",
    "buffer": b"%PDF-1.4 bread",
}
# The size of an image in a data URL, and the colours in the middle of its left and right half.
PIXELS = """async url => {
  const bytes = Uint8Array.from(atob(url.split(",")[1]), letter => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  canvas.drawImage(bitmap, 0, 0);
  const at = share => [...canvas.getImageData(bitmap.width * share, bitmap.height / 2, 1, 1).data];
  return [bitmap.width, bitmap.height, at(0.75)];
}"""


async def opened(open_page: NewPage, url: str, **options: Any) -> Page:
    page = await open_page(url, **options)
    await element(page, "chat.attachments = true")
    await expect(page.locator(".attach")).to_be_visible()
    return page


async def attach(page: Page, how: str, *images: list[Any]) -> list[int]:
    before = await page.locator(".tray .file").count()
    sizes: list[int] = await page.evaluate(
        f"([how, images]) => ({FILES})(how, images)", [how, images]
    )
    await expect(page.locator(".tray .file")).to_have_count(before + len(images))
    return sizes


def parts(shared: Shared, prompt: str) -> list[dict[str, Any]]:
    """Returns the content that the model received for a prompt, without the text."""
    content: list[dict[str, Any]] = shared.calls(prompt)[0].body["messages"][-1]["content"]
    assert {"type": "text", "text": prompt} == content[0]
    return content[1:]


async def test_files_are_pasted_dropped_and_chosen_and_images_are_made_smaller(
    shared: Shared, open_page: NewPage
) -> None:
    page = await opened(open_page, shared.server.url)
    await attach(page, "paste", PHOTO)
    await attach(page, "drop", ["clear.png", "image/png", 300, 200])
    async with page.expect_file_chooser() as chooser:
        await page.click(".attach")
    await (await chooser.value).set_files([PDF])
    await expect(page.locator(".tray .file")).to_have_count(3)
    await expect(page.locator(".tray-size")).to_have_text(SIZE)
    await page.evaluate(AXE.read_text())
    assert [] == await page.evaluate(AXE_RUN)
    small = await page.locator(".tray button").evaluate_all(
        "all => all.map(b => b.getBoundingClientRect()).filter(b => b.width < 44 || b.height < 44)"
    )
    assert [] == small
    prompt = shared.prompt("tokens=5")
    await ask(page, prompt)
    await wait_for_end(page)
    photo, clear, recipe = parts(shared, prompt)
    url = photo["image_url"]["url"]
    assert url.startswith("data:image/jpeg;base64,")
    assert [1536, 1024] == (await page.evaluate(PIXELS, url))[:2]
    assert clear["image_url"]["url"].startswith("data:image/png;base64,")
    assert "recipe.pdf" == recipe["file"]["filename"]
    assert recipe["file"]["file_data"].startswith("data:application/pdf;base64,")
    await expect(page.locator(".tray")).to_be_hidden()
    await expect(page.locator(".prompt .file")).to_have_count(3)
    await expect(page.locator(".prompt canvas")).to_have_count(2)
    await page.click(".action.regenerate")
    await wait_until(lambda: len(shared.calls(prompt)) == 2)  # until then, the old answer is shown
    await expect(page.locator("article.answer")).to_have_count(1)
    await wait_for_end(page)
    assert [photo, clear, recipe] == shared.calls(prompt)[1].body["messages"][-1]["content"][1:]


async def test_a_turned_photo_is_sent_upright_without_its_metadata(
    shared: Shared, open_page: NewPage
) -> None:
    page = await opened(open_page, shared.server.url)
    await attach(page, "paste", ["turned.jpg", "image/jpeg", 400, 200, True])
    prompt = shared.prompt("tokens=5")
    await ask(page, prompt)
    await wait_for_end(page)
    url = parts(shared, prompt)[0]["image_url"]["url"]
    width, height, (red, green, blue, _) = await page.evaluate(PIXELS, url)
    assert (200, 400) == (width, height)
    assert (True, True, True) == (red < 30, green < 30, blue > 220)  # the upper half is now right
    assert "RXhpZg" not in url  # the word Exif


async def test_what_does_not_fit_is_refused_before_it_is_sent(
    shared: Shared, beside: System, open_page: NewPage
) -> None:
    server = await beside.server(HOLDLINE_MAX_BODY_BYTES="150000")
    page = await opened(open_page, server.url)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await expect(page.locator(".attach")).to_have_attribute("title", LIMIT)
    await attach(page, "drop", *[["photo.jpg", "image/jpeg", 700, 400]] * 3)  # they share the space
    problem = page.locator(".tray-problem")
    for name, kind, content, words in (
        ("big.pdf", "application/pdf", b"x" * 90_000, "big.pdf does not fit."),
        ("empty.pdf", "application/pdf", b"", "empty.pdf is empty."),
        ("run.exe", "application/x-msdownload", b"MZ", "run.exe is not of a kind"),
        ("drawn.svg", "image/svg+xml", b"<svg/>", "drawn.svg is not of a kind"),
        ("odd.png", "image/png", b"no image", "odd.png cannot be shown"),
    ):
        chosen: FilePayload = {"name": name, "mimeType": kind, "buffer": content}
        await page.set_input_files("input[type=file]", [chosen])
        await expect(problem).to_contain_text(words)
    await expect(page.locator(".tray .file")).to_have_count(3)
    await page.locator(".tray .remove-file").last.click()
    await expect(page.locator(".tray .file")).to_have_count(2)
    await expect(problem).to_be_empty()
    prompt = shared.prompt("tokens=5")
    await ask(page, prompt)
    await wait_for_end(page)
    assert 2 == len(parts(shared, prompt))


async def test_contents_are_not_stored_and_a_prompt_that_lost_them_says_so(
    shared: Shared, open_page: NewPage
) -> None:
    page = await opened(open_page, shared.server.url)
    await attach(page, "paste", PHOTO)
    prompt = shared.prompt("tokens=5")
    await ask(page, prompt)
    answer = await wait_for_end(page)
    stored = await page.evaluate("JSON.stringify(localStorage)")
    assert "photo.jpg" in stored
    assert "base64" not in stored
    await attach(page, "paste", PHOTO)
    await page.evaluate("dispatchEvent(new Event('pagehide'))")
    await expect(page.locator("#state")).not_to_have_attribute("data-state", "open")
    await page.click("#send")  # an image alone is a prompt
    await expect(page.locator("article.answer .note").last).to_contain_text("Not sent yet")
    await page.reload()
    note = page.locator("article.answer .note").last
    await expect(note).to_contain_text("Not sent: images and files stay in the page")
    await expect(page.locator("article.answer .text").first).to_have_text(answer)
    for button in await page.locator(".again, .action.regenerate").all():
        await expect(button).to_be_hidden()
    await ask(page, shared.prompt("tokens=5"))  # the lost prompt does not block others
    await wait_for_end(page)


async def test_after_the_server_forgot_the_conversation_earlier_images_are_only_named(
    shared: Shared, open_page: NewPage
) -> None:
    page = await opened(open_page, shared.server.url)
    await attach(page, "paste", PHOTO)
    first = shared.prompt("tokens=5")
    await ask(page, first)
    answer = await wait_for_end(page)
    forgotten = (await element(page, "chat.turns"))[0]["responseId"]
    await page.evaluate("id => fetch(`/v1/responses/${id}`, { method: 'DELETE' })", forgotten)
    await attach(page, "paste", ["new.png", "image/png", 90, 90])
    second = shared.prompt("tokens=5")
    await ask(page, second)
    await expect(page.locator("article.answer")).to_have_count(2)
    await wait_for_end(page)
    await expect(page.locator(".forgotten")).to_contain_text("without their images and files")
    messages = shared.calls(second)[0].body["messages"]
    assert f"{first}\n[photo.jpg]" == messages[0]["content"]
    assert answer == messages[1]["content"].strip()
    assert 1 == len(parts(shared, second))


async def test_an_edited_prompt_keeps_its_images(shared: Shared, open_page: NewPage) -> None:
    page = await opened(open_page, shared.server.url)
    await attach(page, "paste", PHOTO)
    await ask(page, shared.prompt("tokens=5"))
    await wait_for_end(page)
    await page.click(".action.edit")
    await expect(page.locator(".tray .file")).to_have_count(1)
    edited = shared.prompt("tokens=6")
    await ask(page, edited)
    # Until the edited prompt is sent, the page shows the earlier answer, which has ended.
    await wait_until(lambda: shared.calls(edited) != [])
    await expect(page.locator("article.answer")).to_have_count(1)
    await wait_for_end(page)
    assert 1 == len(parts(shared, edited))
    await page.click(".action.edit")
    await page.keyboard.press("Escape")
    await expect(page.locator(".tray")).to_be_hidden()


async def test_the_page_attaches_files_also_before_visitors_can(
    shared: Shared, open_page: NewPage
) -> None:
    page = await open_page(shared.server.url)
    await element(
        page,
        "(chat.attach([new File(['%PDF-'], 'bill.pdf', { type: 'application/pdf' })]),"
        " chat.attachments = true)",
    )
    await expect(page.locator(".tray .file-name")).to_have_text("bill.pdf")
    await element(page, "chat.attach([new File(['a'], 'notes.txt', { type: 'text/plain' })])")
    await expect(page.locator(".tray-problem")).to_contain_text("notes.txt")
    await element(
        page, "chat.attach([new File(['%PDF-'], 'tax.pdf', { type: 'application/pdf' })])"
    )
    await expect(page.locator(".tray .file-name")).to_have_text(["bill.pdf", "tax.pdf"])
    prompt = shared.prompt("tokens=5")
    await ask(page, prompt)
    await wait_for_end(page)
    assert ["bill.pdf", "tax.pdf"] == [part["file"]["filename"] for part in parts(shared, prompt)]
