"""Tests the page snippets in docs/start.md and docs/widget.md, as printed, on a page of a site."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import expect

from tests.browser import NewPage, ServeSite, ask, in_chromium, wait_for_end
from tests.firefox import Firefox, needs_firefox
from tests.paths.conftest import Shared
from tests.system import (
    ROOT,
    Server,
    System,
    clean_environ,
    free_port,
    run_command,
    wait_until,
)

pytestmark = in_chromium

START = (ROOT / "docs" / "start.md").read_text()
WIDGET = (ROOT / "docs" / "widget.md").read_text()


def code_blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)


def with_address(server: Server, snippet: str) -> str:
    """Returns a snippet in which the server's address replaces the documented address."""
    host = server.url.removeprefix("http://")
    named = snippet.replace("https://HOST", server.url).replace("wss://HOST", f"ws://{host}")
    return named.replace("127.0.0.1:8080", host)


[START_PAGE] = code_blocks(START, "html")
[WIDGET_PAGE, TOKEN_PAGE, *_] = code_blocks(WIDGET, "html")
[TOKEN_SITE] = code_blocks(WIDGET, "python")
[CLIENT_SCRIPT] = code_blocks(WIDGET, "js")
CLIENT_PAGE = f"""<p id="answer"></p><script type="module">
const show = (text) => document.querySelector("#answer").textContent = text;
{CLIENT_SCRIPT}
show(handle.answer.text + " END");
</script>"""


async def start_allowing_server(beside: System) -> tuple[Server, int]:
    """Starts a server that allows a site; returns the server and the site's port."""
    port = free_port()
    return await beside.server(HOLDLINE_ALLOWED_ORIGINS=f"http://127.0.0.1:{port}"), port


async def test_the_snippets_work_in_chromium(
    shared: Shared, beside: System, open_page: NewPage, serve_site: ServeSite
) -> None:
    server, port = await start_allowing_server(beside)
    host = server.url.removeprefix("http://")
    origin = await serve_site(with_address(server, START_PAGE), port)
    page = await open_page(origin, None, host)
    await page.click(".launcher")
    prompt = shared.prompt("tokens=30")
    await ask(page, prompt)
    assert await wait_for_end(page) == shared.answer_to(prompt)
    for snippet, seen in ((WIDGET_PAGE, "#prompt"), (CLIENT_PAGE, "#answer")):
        await page.set_content(with_address(server, snippet))
        await expect(page.locator(seen)).to_be_visible()
    await expect(page.locator("#answer")).to_have_text(re.compile("END"), timeout=30_000)


async def test_the_snippets_with_tokens_work_in_chromium(
    shared: Shared, beside: System, open_page: NewPage, tmp_path: Path
) -> None:
    beside.environ |= {"HOLDLINE_JWT_KEYS": str(tmp_path / "keys")}
    [command] = re.findall(r"/holdline (signers add .+?) \|", WIDGET)
    key = (await beside.run(*command.split())).splitlines()[0]
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    server = await beside.server(HOLDLINE_ALLOWED_ORIGINS=origin)
    (tmp_path / "signing-key.json").write_text(key)
    (tmp_path / "index.html").write_text(with_address(server, TOKEN_PAGE))
    program = TOKEN_SITE.replace("8000", str(port))
    environ = clean_environ() | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, env=environ) as site:
        try:
            await wait_until(lambda: answers(origin))
            page = await open_page(origin, None, server.url.removeprefix("http://"))
            prompt = shared.prompt()
            await ask(page, prompt)
            assert await wait_for_end(page) == shared.answer_to(prompt)
        finally:
            site.kill()


async def test_only_the_owner_can_read_the_private_key_and_git_ignores_it(tmp_path: Path) -> None:
    [snippet] = re.findall(r"```sh\n(umask .*?signing-key\.json)\n", WIDGET, re.DOTALL)
    program = tmp_path / ".venv/bin/holdline"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m command "$@"\n')
    program.chmod(0o755)
    environ = clean_environ() | {"PYTHONPATH": str(ROOT)}
    await run_command("bash", "-ec", snippet, cwd=tmp_path, environ=environ)
    written = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {"signing-key.json", "signers.json"} <= {path.name for path in written}
    assert {0o600} == {path.stat().st_mode & 0o777 for path in written}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {f"/{path.name}" for path in written} <= set(ignored)


async def answers(url: str) -> bool:
    """Returns whether a site accepts connections."""
    try:
        async with aiohttp.ClientSession() as http, http.get(url):
            return True
    except aiohttp.ClientConnectorError:
        return False


@needs_firefox
@pytest.mark.heavy
async def test_the_snippets_work_in_firefox(
    shared: Shared, beside: System, serve_site: ServeSite
) -> None:
    server, port = await start_allowing_server(beside)
    origin = await serve_site(with_address(server, START_PAGE + CLIENT_PAGE), port)
    prompt = shared.prompt("tokens=30")
    async with Firefox() as firefox:
        await firefox.goto(origin)
        assert await firefox.run(
            """async prompt => {
              await customElements.whenDefined("holdline-chat");
              const chat = document.querySelector("holdline-chat");
              chat.open();
              while (!chat.send(prompt)) await new Promise(done => setTimeout(done, 20));
              return true;
            }""",
            prompt,
        )

        async def answered() -> bool:
            (turn,) = await firefox.run("() => document.querySelector('holdline-chat').turns")
            told = await firefox.run("() => document.querySelector('#answer').textContent")
            return bool(turn["status"] == "completed" and told.endswith(" END"))

        await wait_until(answered, 40)
        (turn,) = await firefox.run("() => document.querySelector('holdline-chat').turns")
        assert shared.answer_to(prompt) == turn["text"].strip()
        assert [] == await firefox.run("() => window.wrong")
