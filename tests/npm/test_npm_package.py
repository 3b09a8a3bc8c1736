"""Tests the npm package as its users install it: in a page of Vite, React and TypeScript."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import expect

from dev.npm import stage
from dev.staging import StagingError
from tests.browser import NewPage, ServeApp, in_chromium
from tests.fake_model import FakeModel
from tests.system import ROOT, Server, System, free_port, run_command

# Building the page takes longer than its tests.
pytestmark = [*in_chromium, pytest.mark.timeout(400)]

PAGE = ROOT / "tests/npm/page"
DOCUMENT = (ROOT / "docs/javascript.md").read_text()


@dataclass
class Package:
    """The package in a folder, packed, and installed in a built page."""

    staged: Path
    tarball: Path
    page: Path

    @property
    def files(self) -> set[str]:
        with tarfile.open(self.tarball) as archive:
            return {name.removeprefix("package/") for name in archive.getnames()}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    folder = tmp_path_factory.mktemp("npm")
    stage(staged := folder / "staged")
    await run_command("npm", "pack", "--silent", "--pack-destination", str(folder), cwd=staged)
    (tarball,) = folder.glob("*.tgz")
    page = folder / "page"
    shutil.copytree(PAGE, page, symlinks=True)
    for number, source in enumerate(blocks("ts")):
        (page / f"src/documented{number}.ts").write_text(DECLARED + source)
    for number, source in enumerate(blocks("tsx")):
        (page / f"src/Documented{number}.tsx").write_text(source)
    install = ("npm", "install", "--no-save", "--offline", "--no-audit", "--no-fund", "--silent")
    await run_command(*install, str(tarball), cwd=page)
    await run_command("npm", "run", "--silent", "build", cwd=page)
    return Package(staged, tarball, page)


# What the documented modules use of the page around them.
DECLARED = "declare function show(...texts: string[]): void;\ndeclare const token: string;\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@dataclass
class Site:
    """The built page on a site of its own, and the server that it uses."""

    url: str
    server: Server

    def page(self, name: str) -> str:
        return f"{self.url}/{name}?server={self.server.url}/"


@pytest_asyncio.fixture(loop_scope="session")
async def site(package: Package, system: System, serve_app: ServeApp) -> AsyncIterator[Site]:
    port = free_port()
    app = web.Application()
    app.router.add_get("/favicon.ico", no_icon)
    app.router.add_static("/", package.page / "dist")
    url = await serve_app(app, port)
    async with FakeModel() as model:
        server = await system.server(HOLDLINE_ALLOWED_ORIGINS=url)
        await system.worker(model.url)
        yield Site(url, server)


async def no_icon(request: web.Request) -> web.Response:
    return web.Response(status=204)


async def test_react_shows_an_answer_with_the_component_and_with_the_hooks(
    site: Site, open_page: NewPage
) -> None:
    host = site.server.url.removeprefix("http://")
    page = await open_page(site.page("index.html"), None, host)
    answer = page.locator("output")
    await expect(answer).to_have_text(re.compile("t4 $"), timeout=20_000)
    await expect(answer).to_have_attribute("data-status", "completed")
    await expect(answer).to_have_attribute("data-verified", "true")
    await expect(page.get_by_text("Help", exact=True)).to_be_visible()
    await expect(page.locator("holdline-chat").get_by_role("textbox")).to_be_visible()
    await page.get_by_role("button", name="ask", exact=True).click()
    await expect(page.locator("#root > ul > li")).to_have_text(
        re.compile(r"^completed: .*t3 $"), timeout=20_000
    )
    await expect(page.locator("holdline-chat article.answer .text")).to_have_text(
        re.compile("t3 ?$")
    )
    # The words of the language are one of the files that the widget loads later.
    await expect(page.locator("holdline-chat [part~=send]")).to_have_attribute(
        "aria-label", "Senden"
    )


async def test_a_page_without_react_uses_the_client_alone(site: Site, open_page: NewPage) -> None:
    host = site.server.url.removeprefix("http://")
    page = await open_page(site.page("client.html"), None, host)
    await expect(page.locator("output")).to_have_text(
        re.compile(r"^completed: .*t4 $"), timeout=20_000
    )


async def test_a_bundler_leaves_out_what_a_page_does_not_use(package: Package) -> None:
    assets = package.page / "dist/assets"
    html = (package.page / "dist/client.html").read_text()
    waiting, loaded = re.findall(r"assets/([\w.-]+\.js)", html), set[str]()
    while waiting:
        name = waiting.pop()
        loaded.add(name)
        source = (assets / name).read_text()
        static = re.findall(r'(?:from|import)"\./([\w.-]+\.js)"', source)
        waiting += [other for other in static if other not in loaded]
    code = "".join((assets / name).read_text() for name in loaded)
    assert "WebSocket" in code
    assert "attachShadow" not in code
    assert "katex" not in code
    assert len(code) < 25_000


async def test_the_package_contains_types_licences_and_nothing_of_the_server(
    package: Package,
) -> None:
    files = package.files
    manifest = json.loads((package.staged / "package.json").read_text())
    for entry in manifest["exports"].values():
        assert {path.removeprefix("./") for path in entry.values()} <= files
    assert {"LICENSE", "README.md", "vendor/VERSIONS"} <= files
    assert {f"vendor/{name}/LICENSE" for name in ("highlight", "katex", "marked")} <= files
    assert not [name for name in files if re.search(r"review|docs|console|^page\.|tsconfig", name)]
    assert "dependencies" not in manifest


async def test_node_imports_the_client_and_the_react_module_without_a_page(
    package: Package,
) -> None:
    script = (
        'import { HoldlineClient } from "@holdline/client";'
        'import { renderToString } from "react-dom/server";'
        'import { createElement } from "react";'
        'import { HoldlineChat } from "@holdline/client/react";'
        'const chat = renderToString(createElement(HoldlineChat, {server: "/"}));'
        "console.log(typeof HoldlineClient, chat)"
    )
    shown = await run_command("node", "--input-type=module", "--eval", script, cwd=package.page)
    assert 'function <holdline-chat server="/"></holdline-chat>' == shown.strip()


async def test_a_missing_module_is_named(tmp_path: Path) -> None:
    for folder in ("web/vendor/highlight", "docs"):
        (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(StagingError, match=r"^web/[\w./-]+ is imported, but does not exist$"):
        stage(tmp_path / "staged", tmp_path)
