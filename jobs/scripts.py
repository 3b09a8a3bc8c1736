"""The Lua scripts: one file a transition, loaded once, named by their SHA-1."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A script as Redis knows it: `source` to load it, `sha` to call it."""

    name: str
    source: bytes
    sha: bytes


def _load(path: Path, shared: str) -> Script:
    first_line, _, body = path.read_text(encoding="utf-8").partition("\n")
    source = f"{first_line}\n{shared}\n{body}".encode()
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
    return Script(path.stem, source, sha.encode())


def _load_all() -> dict[str, Script]:
    parts = ("_shared.lua", "_provider.lua", "_turns.lua", "_limits.lua")
    shared = "\n".join((_FOLDER / part).read_text(encoding="utf-8") for part in parts)
    paths = sorted(path for path in _FOLDER.glob("*.lua") if not path.stem.startswith("_"))
    return {path.stem: _load(path, shared) for path in paths}


SCRIPTS = _load_all()
