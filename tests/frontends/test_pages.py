"""Runs the documented code of React front ends and of Deep Chat in Chromium."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from dev.npm import TSC, stage
from tests.browser import NewPage, ServeApp, in_chromium
from tests.fake_model import FakeModel
from tests.frontends.cutting import CuttingProxy
from tests.node import WEB_TESTS
from tests.system import ROOT, Server, System, free_port, run_command

HERE = Path(__file__).parent
DOCUMENT = (ROOT / "docs/frontends.md").read_text()
SERVER = 'new URLSearchParams(location.search).get("server")'
ANSWER = "It scatters blue."
PROMPT = f"say={ANSWER.replace(' ', '_')} pace=0.04"
# More events than the stream has: one for each token, those around the text, and comments.
EVENTS = len(ANSWER) + 24

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
    return [re.sub(r'"https://HOST(/[^"]+)"', rf'{SERVER} + "\1"', each) for each in programs]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the built pages."""
    folder = tmp_path_factory.mktemp("frontends") / "page"
    shutil.copytree(HERE / "page", folder)
    (folder / "node_modules").symlink_to(HERE / "node_modules")
    (folder / "web").symlink_to(ROOT / "web")
    for number, source in enumerate(documented("tsx")):
        (folder / f"Documented{number}.tsx").write_text(source)
    (deep_chat,) = (source for source in documented("ts") if "deep-chat" in source)
    (folder / "documented.ts").write_text(deep_chat)
    await run_command("node_modules/.bin/vite", "build", cwd=folder)
    return folder / "dist"


@dataclass
class Site:
    """The built pages on a site of their own, the server that they use, and its model."""

    url: str
    server: Server
    model: FakeModel

    @property
    def host(self) -> str:
        return self.server.url.removeprefix("http://")

    def page(self, name: str, **query: str | list[str]) -> str:
        return f"{self.url}/{name}.html?{urlencode(query, doseq=True)}"


@pytest_asyncio.fixture(loop_scope="session")
async def site(pages: Path, system: System, serve_app: ServeApp) -> AsyncIterator[Site]:
    app = web.Application()
    app.router.add_static("/", pages)
    url = await serve_app(app, free_port())
    async with FakeModel() as model:
        server = await system.server(HOLDLINE_ALLOWED_ORIGINS=url)
        await system.worker(model.url)
        yield Site(url, server, model)


async def test_the_documented_code_fits_the_types_of_the_packages(tmp_path: Path) -> None:
    stage(tmp_path / "staged")
    modules = tmp_path / "node_modules"
    for folder in ("@holdline", "@types"):
        (modules / folder).mkdir(parents=True)
    (modules / "@holdline/client").symlink_to(tmp_path / "staged")
    for name in ("@types/react", "csstype"):
        (modules / name).symlink_to(WEB_TESTS / "node_modules" / name)
    for name in ("ai", "@ai-sdk", "@ag-ui", "@assistant-ui", "react"):
        (modules / name).symlink_to(HERE / "node_modules" / name)
    for language in ("ts", "tsx"):
        for number, program in enumerate(documented(language)):
            # The modules of Deep Chat name files that are not in its package.
            if "deep-chat" not in program:
                (tmp_path / f"{language}{number}.{language}").write_text(
                    f"{program}\nexport {{}};\n"
                )
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": COMPILER}))
    await run_command(str(TSC), "--project", str(tmp_path), cwd=tmp_path)


async def test_use_chat_resumes_after_a_reload(site: Site, open_page: NewPage) -> None:
    url = site.page("use-chat", server=f"{site.server.url}/", id="chat-1")
    page = await open_page(url, None, site.host)
    await page.locator("input").fill(PROMPT)
    await page.locator("input").press("Enter")
    await expect(page.locator("p").last).to_have_text(re.compile("^It s"))
    await page.reload()
    await expect(page.locator("p").last).to_have_text(ANSWER)
    assert 1 == len(site.model.calls)


@pytest.mark.heavy
async def test_assistant_ui_shows_the_whole_answer_after_a_cut_at_each_event(
    site: Site, open_page: NewPage
) -> None:
    port = int(site.server.url.rpartition(":")[2])
    async with contextlib.AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(CuttingProxy(port, events)) for events in range(EVENTS)
        ]
        servers = [f"{proxy.url}/" for proxy in proxies]
        hosts = [proxy.url.removeprefix("http://") for proxy in proxies]
        url = site.page("assistant-ui", server=servers, prompt=PROMPT)
        page = await open_page(url, None, *hosts)
        for section in await page.locator("section").all():
            await expect(section).to_contain_text(ANSWER, timeout=60_000)
    assert len(ANSWER) < sum(proxy.cuts for proxy in proxies)
    assert EVENTS == len(site.model.calls)


async def test_deep_chat_shows_an_answer(site: Site, open_page: NewPage) -> None:
    page = await open_page(site.page("deep-chat", server=site.server.url), None, site.host)
    await page.locator("#text-input").fill(PROMPT)
    await page.locator("#text-input").press("Enter")
    await expect(page.locator("deep-chat").get_by_text(ANSWER)).to_be_visible()
    assert 1 == len(site.model.calls)
