"""The Lua scripts: one file a transition, loaded once, named by their SHA-1.

What several of them need is in files whose names begin with `_`: local functions and constants.
Redis runs a script from its first line at each call, and makes each function that stands there
anew. So a script has in front of it what it names, what that names, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent
# A part stands in front of what needs it, so the order of the files is that of their dependence.
_PARTS: Final = ("_shared.lua", "_provider.lua", "_turns.lua", "_limits.lua")
_COMMENT: Final = re.compile(r"^ *--.*\n", re.MULTILINE)
_PART: Final = re.compile(r"^local (?:function )?(\w+)(?:.*\n)+?(?=local |\Z)", re.MULTILINE)
# What is no name of a part, though it may look like one.
_NO_NAME: Final = re.compile(r"'[^']*'|--.*")


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Redis knows it: `source` to load it, `sha` to call it."""

    name: str
    source: bytes
    sha: bytes


def _names(code: str) -> set[str]:
    return set(re.findall(r"\w+", _NO_NAME.sub("", code)))


def _parts() -> Iterator[tuple[str, str]]:
    for name in _PARTS:
        code = _COMMENT.sub("", (_FOLDER / name).read_text(encoding="utf-8"))
        for part in _PART.finditer(code):
            yield part[1], part[0].rstrip() + "\n"


def _composed(body: str, parts: list[tuple[str, str]]) -> str:
    named, code = _names(body), body
    for name, part in reversed(parts):
        if name in named:
            named |= _names(part)
            code = part + code
    return code


def _load_all() -> dict[str, Script]:
    parts, scripts = list(_parts()), {}
    for path in sorted(_FOLDER.glob("[!_]*.lua")):
        first_line, _, body = path.read_text(encoding="utf-8").partition("\n")
        source = f"{first_line}\n{_composed(body, parts)}".encode()
        sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
        scripts[path.stem] = Script(path.stem, source, sha.encode())
    return scripts


SCRIPTS: Final = _load_all()
