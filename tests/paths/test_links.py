"""Checks the links, images and snippets of Markdown files, and document names in the code."""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.paths.documents import ROOT

PAGES = sorted(
    path
    for folder in (*ROOT.glob("*.md"), ROOT / ".github", ROOT / "deploy", ROOT / "docs")
    for path in ([folder] if folder.is_file() else folder.rglob("*.md"))
)
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE)
SOURCES = {".py", ".js", ".mjs", ".lua", ".html", ".css", ".toml", ".yml", ".conf", ".in", ".txt"}
# The pages in which readers look something up, and type nothing.
LOOKED_UP = {"architecture", "glossary", "promises", "protocol-reference"}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def links(page: Path) -> list[tuple[Path, str]]:
    """Returns the target and anchor of each link to a file, ignoring links inside code."""
    text = re.sub(r"`[^`\n]+`", "", FENCE.sub("", page.read_text()))
    found = ["".join(groups) for groups in LINK.findall(text)]
    parts = [link.partition("#") for link in found if "://" not in link]
    return [((page.parent / path).resolve() if path else page, hash_) for path, _, hash_ in parts]


@functools.cache
def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings.

    As on GitHub, a repeated heading's anchor gets a number.
    """
    found: set[str] = set()
    seen = Counter[str]()
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return found


@each_page
def test_every_link_has_a_target(page: Path) -> None:
    for target, anchor in links(page):
        assert target.is_relative_to(ROOT), target
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_every_file_in_docs_is_reachable_from_the_readme() -> None:
    """A link to a folder also reaches the images in that folder."""
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        if path.is_dir():
            seen |= {*path.glob("*.png"), *path.glob("*.svg")}
        elif path.suffix == ".md":
            todo += [target for target, _ in links(path)]
    assert set() == {path for path in (ROOT / "docs").rglob("*.*") if path.is_file()} - seen


def test_every_page_begins_with_what_its_reader_types() -> None:
    """A block of commands comes before the first list, table, picture and heading."""
    for path in (ROOT / "docs").glob("*.md"):
        start = re.split(
            r"^(?:- |\||#{2,} |!\[)", path.read_text(), maxsplit=1, flags=re.MULTILINE
        )[0]
        assert ("```sh\n" in start) != (path.stem in LOOKED_UP), path.name


def test_the_menu_of_the_docs_pages_names_every_document() -> None:
    menu = re.findall(r'href="/docs/([a-z/-]+)"', (ROOT / "web/docs.html").read_text())
    assert sorted(menu) == sorted(path.stem for path in (ROOT / "docs").glob("*.md"))


def test_every_entry_of_the_glossary_is_linked_from_another_document() -> None:
    glossary = ROOT / "docs/glossary.md"
    entries = re.findall(r"^## (.+)$", glossary.read_text(), re.MULTILINE)
    assert entries == sorted(entries, key=str.lower)
    linked = {
        anchor
        for page in PAGES
        if page != glossary
        for target, anchor in links(page)
        if target == glossary
    }
    assert {entry.lower().replace(" ", "-") for entry in entries} == linked - {""}


def sources() -> Iterator[Path]:
    """Returns the repository's text files other than Markdown."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name[0] != "." and name != "node_modules"]
        for path in (Path(folder) / name for name in names):
            if path.suffix in SOURCES or path.name == "Makefile":
                yield path


def test_every_document_that_the_code_mentions_exists() -> None:
    for path in sources():
        for document, anchor in re.findall(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", path.read_text()):
            target = ROOT / "docs" / document
            assert target.is_file(), f"{path}: {document}"
            assert not anchor or anchor in anchors(target), f"{path}: {document}#{anchor}"


@each_page
def test_every_snippet_parses(page: Path) -> None:
    for _, language, code in FENCE.findall(page.read_text()):
        match language:
            case "python" | "py":  # test_docs_run.py runs only the snippets in `python`
                ast.parse(code)
            case "json":
                for line in code.splitlines():
                    json.loads(line)
            case "toml":
                tomllib.loads(code)
            case "yaml":
                yaml.safe_load(code)
            case "sh":
                subprocess.run(["bash", "-n"], input=code, text=True, check=True, timeout=10)
            case _:
                # test_widget_snippets.py runs the HTML and JavaScript snippets in a browser, and
                # test_npm_package.py checks the types of the TypeScript snippets.
                assert language in {"", "html", "js", "ts", "tsx", "text"}, language
