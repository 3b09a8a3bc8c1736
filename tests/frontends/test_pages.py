"""Runs the documented code of React front ends and of Deep Chat in Chromium."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import shutil
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Page, expect

from dev.npm import TSC, stage
from tests.browser import NewPage, in_chromium, serving
from tests.frontends.cutting import (
    ANSWER,
    EVENTS,
    SCRIPT,
    SHA256,
    CuttingProxy,
    cut_everywhere,
)
from tests.node import WEB_TESTS, node_22
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

HERE = Path(__file__).parent
NODE = node_22() or "node"
DOCUMENT = (ROOT / "docs/frontends.md").read_text()
SERVER = 'new URLSearchParams(location.search).get("server")'

COMPILER = {
    "strict": True,
    "noEmit": True,
    "jsx": "react-jsx",
    "target": "es2022",
    "module": "esnext",
    "moduleResolution": "bundler",
    "lib": ["es2023", "dom", "dom.iterable"],
    "types": [],
    "skipLibCheck": True,
}

# Building the pages takes longer than their tests.
pytestmark = [*in_chromium, pytest.mark.timeout(300)]


def documented(language: str) -> list[str]:
    """Returns the programs of the document in a language, with the server of the page's query."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    programs = [program.replace('"https://HOST/"', SERVER + "!") for program in found]
    programs = [re.sub(r'="(/api/[^"]+)"', rf'={{{SERVER} + "\1"}}', each) for each in programs]
    return [re.sub(r'"https://HOST(/[^"]+)"', rf'{SERVER} + "\1"', each) for each in programs]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in whose `node_modules` are the front ends and the npm package."""
    folder = tmp_path_factory.mktemp("frontends")
    modules = folder / "node_modules"
    (modules / "@holdline").mkdir(parents=True)
    stage(folder / "staged")
    (modules / "@holdline/client").symlink_to(folder / "staged")
    for package in (HERE / "node_modules").iterdir():
        if package.name != "@types":
            (modules / package.name).symlink_to(package)
    (modules / "@types").mkdir()
    for name in ("@types/react", "csstype"):
        (modules / name).unlink(missing_ok=True)
        (modules / name).symlink_to(WEB_TESTS / "node_modules" / name)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pages(installed: Path) -> Path:
    """The folder with the built pages."""
    folder = installed / "page"
    shutil.copytree(HERE / "page", folder)
    for number, source in enumerate(documented("tsx")):
        (folder / f"Documented{number}.tsx").write_text(source)
    (deep_chat,) = (source for source in documented("ts") if "deep-chat" in source)
    (folder / "documented.ts").write_text(deep_chat)
    await run_command("../node_modules/.bin/vite", "build", cwd=folder)
    return folder / "dist"


@dataclass
class Site:
    """The built pages on a site of their own, and a server of the shared system that they use."""

    url: str
    server: Server

    @property
    def host(self) -> str:
        return self.server.url.removeprefix("http://")

    def page(self, name: str, **query: str | list[str]) -> str:
        return f"{self.url}/{name}.html?{urlencode(query, doseq=True)}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(
    pages: Path, shared: Shared, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    app = web.Application()
    app.router.add_static("/", pages)
    async with serving() as serve, System(shared.redis_url, tmp_path_factory.mktemp("site")) as own:
        url = await serve(app, free_port())
        yield Site(url, await own.server(HOLDLINE_ALLOWED_ORIGINS=url))


async def test_the_documented_code_fits_the_types_of_the_packages(installed: Path) -> None:
    folder = installed / "types"
    folder.mkdir()
    for language in ("ts", "tsx"):
        for number, program in enumerate(documented(language)):
            # The modules of Deep Chat name files that are not in its package.
            if "deep-chat" not in program:
                (folder / f"{language}{number}.{language}").write_text(f"{program}\nexport {{}};\n")
    (folder / "styles.d.ts").write_text('declare module "*.css";\n')  # as bundlers declare it
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER}))
    await run_command(str(TSC), "--project", str(folder), cwd=folder)


@pytest.mark.heavy
async def test_use_chat_resumes_after_a_reload(
    shared: Shared, site: Site, open_page: NewPage
) -> None:
    prompt = shared.prompt(SCRIPT)
    url = site.page("use-chat", server=f"{site.server.url}/", id=prompt)
    page = await open_page(url, None, site.host)
    await page.locator("input").fill(prompt)
    await page.locator("input").press("Enter")
    await expect(page.locator("p").last).to_have_text(re.compile("^It s"))
    await page.reload()
    await expect(page.locator("p").last).to_have_text(ANSWER)
    assert 1 == len(shared.calls(prompt))


@contextlib.asynccontextmanager
async def cut_page(
    name: str, shared: Shared, site: Site, open_page: NewPage
) -> AsyncIterator[Page]:
    """Opens a page that asks for the answer on many servers, each behind a proxy of its own."""
    prompt = shared.prompt(SCRIPT)
    async with cut_everywhere(site.server.url) as proxies:
        servers = [f"{proxy.url}/" for proxy in proxies]
        hosts = [proxy.url.removeprefix("http://") for proxy in proxies]
        yield await open_page(site.page(name, server=servers, prompt=prompt), None, *hosts)
    for number in range(len(proxies)):
        assert 1 == len(shared.calls(f"{prompt} run={number}")), number


@pytest.mark.heavy
async def test_assistant_ui_shows_the_whole_answer_after_a_cut_at_each_event(
    shared: Shared, site: Site, open_page: NewPage
) -> None:
    async with cut_page("assistant-ui", shared, site, open_page) as page:
        for section in await page.locator("section").all():
            await expect(section).to_contain_text(ANSWER, timeout=60_000)


async def test_assistant_ui_shows_the_whole_answer_after_a_reload(
    shared: Shared, site: Site, open_page: NewPage
) -> None:
    prompt = shared.prompt(SCRIPT)
    url = site.page("assistant-ui-chat", server=f"{site.server.url}/", id=prompt)
    page = await open_page(url, None, site.host)
    await page.get_by_role("textbox").fill(prompt)
    await page.get_by_role("textbox").press("Enter")
    await expect(page.get_by_text(re.compile("^It s"))).to_be_visible()
    await page.reload()
    await expect(page.get_by_text(ANSWER)).to_be_visible()
    assert 1 == len(shared.calls(prompt))


def is_listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@contextlib.asynccontextmanager
async def copilot_runtime(installed: Path, server: str) -> AsyncIterator[str]:
    """Runs the documented runtime of CopilotKit, and yields its URL."""
    port = free_port()
    (source,) = (source for source in documented("js") if "CopilotRuntime" in source)
    source = source.replace(f'{SERVER} + "/v1', f'"{server}/v1').replace("4000", str(port))
    # The page of the test is on another origin than the runtime.
    source = source.replace(
        'basePath: "/api/copilotkit"', 'basePath: "/api/copilotkit", cors: true'
    )
    (installed / "runtime.mjs").write_text(source)
    environ = clean_environ() | {"COPILOTKIT_TELEMETRY_DISABLED": "true"}
    process = await asyncio.create_subprocess_exec(
        NODE, str(installed / "runtime.mjs"), env=environ, stdin=asyncio.subprocess.DEVNULL
    )
    try:
        await wait_until(lambda: is_listening(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        await process.wait()


@pytest.mark.heavy
async def test_copilotkit_shows_the_whole_answer_after_a_cut_and_a_reload(
    shared: Shared, site: Site, open_page: NewPage, installed: Path
) -> None:
    prompt = shared.prompt(SCRIPT)
    cutting = CuttingProxy(int(site.server.url.rpartition(":")[2]), 6)
    async with cutting as proxy, copilot_runtime(installed, proxy.url) as runtime:
        url = site.page("copilotkit", server=runtime, id=prompt)
        page = await open_page(url, None, runtime.removeprefix("http://"))
        await page.get_by_role("textbox").fill(prompt)
        await page.get_by_test_id("copilot-send-button").click()
        await expect(page.get_by_text(re.compile("^It s"))).to_be_visible()
        await page.reload()
        await expect(page.get_by_text(ANSWER)).to_be_visible()
    assert 1 == proxy.cuts
    assert 1 == len(shared.calls(prompt))


@pytest.mark.parametrize("name", ["react-hooks", "react-widget"])
async def test_react_notices_no_cut(
    shared: Shared, site: Site, open_page: NewPage, name: str
) -> None:
    async with cut_page(name, shared, site, open_page) as page:
        outputs = page.locator("output[data-status=completed]")
        await expect(outputs).to_have_count(EVENTS, timeout=60_000)
        texts = await outputs.all_text_contents()
    assert {SHA256} == {hashlib.sha256(text.encode()).hexdigest() for text in texts}


async def test_deep_chat_shows_an_answer(shared: Shared, site: Site, open_page: NewPage) -> None:
    prompt = shared.prompt(SCRIPT)
    page = await open_page(site.page("deep-chat", server=site.server.url), None, site.host)
    await page.locator("#text-input").fill(prompt)
    await page.locator("#text-input").press("Enter")
    await expect(page.locator("deep-chat").get_by_text(ANSWER)).to_be_visible()
    assert 1 == len(shared.calls(prompt))
