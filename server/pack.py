"""Our ES modules as one file: what a page loads is one request, and one integrity value covers it.

Nothing is compiled. Comments and indentation go, `import` and `export` go, and what is left stands
in the order in which the modules would run. That works because the modules keep to a few forms,
and what keeps to no form is refused:

    import { a, b } from "./other.js";
    import sheet from "./look.css" with { type: "css" };
    export const | class | function | async function NAME
    export { a } from "./other.js";            counts in the entry alone

A name at the top of a module is taken once among all of them. A vendored module is put into a
function of its own, so its names are its own business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from posixpath import dirname, join, normpath
from typing import Final

Read = Callable[[str], str]

# A string, a template or a pattern is kept as it is; a comment goes.
_TOKEN: Final = re.compile(
    r"""(?P<kept>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`
    |(?<=[(,=:\[!&|?{};\s])/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*(?=[.,;)\s]))
    |(?P<comment>/\*.*?\*/|//[^\n]*)""",
    re.DOTALL | re.VERBOSE,
)
_IMPORT: Final = re.compile(
    r'^import (?:\{(?P<names>[^}]*)\}|(?P<sheet>\w+)) from "(?P<place>[^"]+)"'
    r'(?: with \{ type: "css" \})?;\n?',
    re.MULTILINE,
)
_REEXPORT: Final = re.compile(
    r'^export \{(?P<names>[^}]*)\} from "(?P<place>[^"]+)";\n?', re.MULTILINE
)
_EXPORT: Final = re.compile(r"^export (?=(?:const|class|function|async function) )", re.MULTILINE)
_TOP: Final = re.compile(r"^(?:const|let|class|function|async function)\*? (\w+)", re.MULTILINE)
_LEFT: Final = re.compile(r"^(?:import|export)\b(?!\().*", re.MULTILINE)
_VENDOR_EXPORT: Final = re.compile(r"export\s*\{([^}]*)\};?\s*(?://[^\n]*\s*)?$")


class PackError(Exception):
    """A module is not written in the forms that can be packed."""


def strip(source: str) -> str:
    """The source without comments and indentation; strings, templates and patterns stay."""
    bare = _without_comments(source)
    return "".join(f"{line.strip()}\n" for line in bare.splitlines() if line.strip())


def _without_comments(source: str) -> str:
    return _TOKEN.sub(lambda match: match["kept"] or "", source)


def pack(read: Read, entry: str, home: str) -> str:
    """The entry and all that it imports, as one module.

    `home` is what stands for `import.meta.url` in every module: an expression.

    Raises: PackError.
    """
    packed = _Pack(read)
    packed.add(entry, entry=True)
    body = "".join(packed.parts).replace("import.meta.url", "home")
    exported = ", ".join(packed.exported)
    return f"const home = {home};\n{body}export {{ {exported} }};\n"


class _Pack:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._done: set[str] = set()
        self._owners: dict[str, str] = {}
        self.parts: list[str] = []
        self.exported: list[str] = []

    def add(self, place: str, *, entry: bool = False) -> None:
        """Adds a module after those that it needs; only the entry's exports count."""
        if place in self._done:
            return
        self._done.add(place)
        source = self._read(place)
        for name in _TOP.findall(_EXPORT.sub("", _without_comments(source))):
            if (other := self._owners.setdefault(name, place)) != place:
                raise PackError(f"{name} is at the top of both {other} and {place}")
        code = strip(source)
        code = _IMPORT.sub(lambda match: self._import(place, match), code)
        code = _REEXPORT.sub(lambda match: self._reexport(place, match, entry), code)
        code = _EXPORT.sub("", code)
        if left := _LEFT.search(code):
            raise PackError(f"{place}: {left[0]!r} cannot be packed")
        self.parts.append(code)

    def _import(self, place: str, match: re.Match[str]) -> str:
        wanted = normpath(join(dirname(place), match["place"]))
        if match["sheet"]:
            rules = json.dumps(squeeze(self._read(wanted)), ensure_ascii=False)
            name = match["sheet"]
            return f"const {name} = new CSSStyleSheet();\n{name}.replaceSync({rules});\n"
        if "/vendor/" in f"/{wanted}":
            return self._vendored(wanted, match["names"])
        self.add(wanted)
        return ""

    def _reexport(self, place: str, match: re.Match[str], entry: bool) -> str:
        self.add(normpath(join(dirname(place), match["place"])))
        if entry:
            self.exported += [name.strip() for name in match["names"].split(",") if name.strip()]
        return ""

    def _vendored(self, place: str, wanted: str) -> str:
        if place in self._done:
            raise PackError(f"{place} is imported by two modules")
        self._done.add(place)
        source = self._read(place).rstrip()
        exports = _VENDOR_EXPORT.search(source)
        if exports is None:
            raise PackError(f"{place} does not end with its exports")
        inner = {}
        for pair in exports[1].split(","):
            theirs, _, public = pair.strip().partition(" as ")
            inner[public or theirs] = theirs
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        given = ", ".join(f"{name}: {inner[name]}" for name in names)
        body = source[: exports.start()]
        return (
            f"const {{ {', '.join(names)} }} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();\n"
        )


def squeeze(css: str) -> str:
    """A stylesheet without comments and without the white space that means nothing."""
    bare = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    bare = re.sub(r"\s+", " ", bare)
    return re.sub(r"\s?([{};,])\s?", r"\1", bare).replace(": ", ":").replace(";}", "}").strip()
