"""Stages the sources of the wheel `holdline-server`, with all packages in one top-level package.

`python -m dev.wheel FOLDER` fills an empty folder. Any PEP 517 build tool can build the wheel from
it. Absolute imports between the packages get the prefix `holdline_server.`; see
docs/decisions/wheel-imports.md.
"""

from __future__ import annotations

import ast
import functools
import re
import shutil
import sys
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dev.notices import licence_expression, notice
from dev.staging import StagingError, main
from server.http.static import IMAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
PACKAGE: Final = "holdline_server"
FOLDERS: Final = ("admin", "command", "holdline_client", "jobs", "runtime", "server", "worker")
# The document that describes the wheel on a package index.
README: Final = "README.md"
# Modules whose functions import another module by a name in a string. Staging cannot rewrite such
# imports.
DYNAMIC: Final = frozenset({"__import__", "importlib", "pkgutil", "runpy"})
# This module of `importlib` imports nothing.
METADATA: Final = "importlib.metadata"

# A package index does not have the files to which the document links.
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)\s]*\)")
_FROM: Final = re.compile(r"from\s+(?=\w)")

PYPROJECT: Final = """\
[project]
name = "holdline-server"
version = "{version}"
description = "Holdline, a push service for slow LLM answers: server, worker and commands."
requires-python = "{python}"
readme = "README.md"
license = "{licence}"
license-files = ["LICENSE", "NOTICE"]
dependencies = {dependencies}

[project.scripts]
holdline = "{package}.command.__main__:main"

[tool.flit.module]
name = "{package}"

[build-system]
requires = ["flit_core>=3.11,<5"]
build-backend = "flit_core.buildapi"
"""


def stage(target: Path, root: Path = ROOT) -> None:
    """Fills `target`, an empty or missing folder, with the sources of the wheel.

    Raises:
        StagingError: a source file cannot be rewritten.
    """
    package = target / PACKAGE
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        '"""Holdline: its server, its worker, and the data that they share."""\n'
    )
    modules = module_names(root)
    for path in _sources(root):
        place = package / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            place.write_text(rewrite(path.read_text(), str(path.relative_to(root)), modules))
        else:
            shutil.copyfile(path, place)
    shutil.copytree(root / "web", package / "web")
    shutil.copyfile(root / "requirements.txt", package / "requirements.txt")
    (package / "docs/images").mkdir(parents=True)
    for path in (root / "docs").rglob("*.md"):
        place = package / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text()
        place.write_text(rewrite_text(text))
        for name in IMAGE.findall(text):
            shutil.copyfile(root / "docs/images" / name, package / "docs/images" / name)
    shutil.copyfile(root / "LICENSE", target / "LICENSE")
    (target / "NOTICE").write_text(notice(root))
    (target / "README.md").write_text(_LINK.sub(r"\1", (root / README).read_text()))
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    (target / "pyproject.toml").write_text(
        PYPROJECT.format(
            version=project["version"],
            licence=licence_expression(root),
            python=project["requires-python"],
            dependencies=list(_dependencies(root / "requirements.in")),
            package=PACKAGE,
        )
    )


def _sources(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":
                yield path


def module_names(root: Path) -> set[str]:
    """Returns the dotted names of all modules of the wheel, as they are in the checkout."""
    return {".".join(_module(path, root)) for path in _sources(root)}


def _module(path: Path, root: Path) -> tuple[str, ...]:
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _dependencies(requirements: Path) -> Iterator[str]:
    for line in requirements.read_text().splitlines():
        if line and not line.startswith("#"):
            yield line


@functools.cache
def _in_text(folders: tuple[str, ...]) -> re.Pattern[str]:
    """Returns a pattern for a command, or an import at the start of a line of a script."""
    ours = rf"({'|'.join(folders)})"
    return re.compile(rf"(?<=python -m ){ours}\b|(?<=^from ){ours}(?=[\w.]* import )", re.MULTILINE)


def rewrite_text(text: str, folders: tuple[str, ...] = FOLDERS) -> str:
    """Returns a document for the wheel, with the names of its modules."""
    return _in_text(folders).sub(rf"{PACKAGE}.\g<0>", text)


def _names_module(text: str, modules: set[str]) -> bool:
    """Returns True if a string is the dotted name of a module or of an attribute of one."""
    return any("." in name and name in modules for name in (text, text.rpartition(".")[0]))


def rewrite(
    source: str,
    name: str,
    modules: set[str],
    *,
    strict: bool = True,
    folders: tuple[str, ...] = FOLDERS,
) -> str:
    """Returns the source of a module for the wheel.

    `modules` are the dotted names of all modules in the wheel, and `folders` the packages whose
    names get the prefix. Unless `strict`, code that cannot be rewritten stays as it is.

    Raises:
        StagingError: an import cannot be rewritten.
    """
    lines = source.splitlines(keepends=True)
    # The columns in a syntax tree count bytes of UTF-8, so the code works on bytes.
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()

    def offset(line: int, column: int) -> int:
        return starts[line - 1] + column

    def refuse(node: ast.expr | ast.stmt, why: str) -> None:
        if strict:
            raise StagingError(f"{name}:{node.lineno}: {why}")

    # `places` is a set, because ast.walk may visit a nested string twice, and each string must get
    # only one prefix.
    places: set[int] = set()
    for node in ast.walk(ast.parse(source, name)):
        match node:
            case ast.Import(names=names):
                for alias in names:
                    top = alias.name.partition(".")[0]
                    if top in folders:
                        refuse(node, f"`import {alias.name}` must be written as `from ... import`")
                    if top in DYNAMIC:
                        refuse(node, f"{top} imports modules by strings, which are not rewritten")
            case ast.ImportFrom(module=str(module), level=0):
                top = module.partition(".")[0]
                if top in DYNAMIC and module != METADATA:
                    refuse(node, f"{top} imports modules by strings, which are not rewritten")
                if top in folders:
                    at = offset(node.lineno, node.col_offset)
                    found = _FROM.match(data[at:].decode())
                    if found is None:
                        refuse(node, "the import must be on one line")
                    else:
                        places.add(at + found.end())
            case ast.Name(id="__import__"):
                refuse(node, "__import__ imports modules by strings, which are not rewritten")
            case ast.List(elts=items) | ast.Tuple(elts=items) | ast.Call(args=items):
                for before, after in pairwise(items):
                    match before, after:
                        case ast.Constant("-m"), ast.Constant(str(run)) if run in modules:
                            refuse(
                                after,
                                f"-m {run!r} hard-codes a module name; use __package__ or __name__",
                            )
                        case _:
                            pass
            case ast.Constant(value=str(value)) if _names_module(value, modules):
                at = offset(node.lineno, node.col_offset)
                end = offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
                head, there, _ = data[at:end].decode().partition(value)
                if there:
                    places.add(at + len(head.encode()))
                else:
                    refuse(node, f"{value!r} must be written as one string")
            case ast.JoinedStr() | ast.Constant(value=str()):
                at = offset(node.lineno, node.col_offset)
                end = offset(node.end_lineno or node.lineno, node.end_col_offset or 0)
                text = data[at:end].decode()
                for found in _in_text(folders).finditer(text):
                    places.add(at + len(text[: found.start()].encode()))
            case _:
                pass
    for place in sorted(places, reverse=True):
        data = data[:place] + f"{PACKAGE}.".encode() + data[place:]
    return data.decode()


if __name__ == "__main__":
    sys.exit(main("wheel", __doc__, stage, None))
