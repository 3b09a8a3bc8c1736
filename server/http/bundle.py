"""Bundles our ES modules into one file, so that a page needs one request and one integrity value.

The code is not compiled. The bundler removes comments, insignificant white space, `import` and
`export`, shortens `#private` names and the names of constants and classes, and concatenates the
modules in the order in which they would run. This works because the modules use only these forms of
import and export; any other form raises PackError:

    import { a, b } from "./other.js";
    import sheet from "./look.css" with { type: "css" };
    export const | class | function | async function NAME
    export { a } from "./other.js";

The bundle exports what the entry module exports.

No two modules may declare the same top-level name. A vendored module is wrapped in a function, so
its names cannot collide.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from posixpath import dirname, join, normpath
from string import ascii_letters
from typing import Final

Read = Callable[[str], str]

# Matches strings, template literals and regular expressions, which are kept unchanged, and
# comments, which are removed.
_TOKEN: Final = re.compile(
    r"""(?P<kept>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`
    |(?<=[(,=:\[!&|?{};\s])/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*(?=[.,;)\s]))
    |(?P<comment>/\*.*?\*/|//[^\n]*)""",
    re.DOTALL | re.VERBOSE,
)
_SPACE: Final = re.compile(r" ?([=*<>!&|?:,;{}()\[\]]+) ?")
# Matches an operator between two operands, where removing the spaces cannot create a new operator.
_OPERATOR: Final = re.compile(r"(?<=[\w\])]) ([-+*%/]) (?=[\w(\[])| ([-+*%/])(?==)")
# Matches removable line ends: our modules write every semicolon, so none of these ends a statement.
_END: Final = re.compile(r"(?<=[{},;])\n|[;,]?\n(?=[})\]])")
# Matches a private name where it is declared or used, but not inside a string.
_PRIVATE: Final = re.compile(
    r"(?:(?<=\.)|(?<=^)|(?<=^get )|(?<=^set )|(?<=^async ))#(\w+)", re.MULTILINE
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
_EXPORTED: Final = re.compile(
    r"^export (?:const|class|function|async function) (\w+)", re.MULTILINE
)
_TOP: Final = re.compile(r"^(?:const|let|class|function|async function)\*? (\w+)", re.MULTILINE)
# Matches names of top-level constants and classes. A name after a single dot is a property and is
# kept, while a name after three dots (the spread operator) is not.
_CAPITAL: Final = re.compile(r"(?<![\w$])(?<![^.]\.)[A-Z]\w+")
_NUMBER: Final = re.compile(r"^const ([A-Z]\w+) = ([\d_.]+);\n", re.MULTILINE)
_FILLED: Final = re.compile(r"\$\{[^}]*\}")
# The constant in `place.js` whose value is filled in when the file is served.
_FILLED_LATER: Final = "INTEGRITY"
_LEFT: Final = re.compile(r"^(?:import|export)\b(?!\().*", re.MULTILINE)
_VENDOR_EXPORT: Final = re.compile(r"export\s*\{([^}]*)\};?\s*(?://[^\n]*\s*)?$")
# The average line length, in characters, from which a vendored module counts as minified. Only
# indentation and whole-line comments are removed from other vendored modules, because tokenizing
# these modules would take ten times as long.
_MINIFIED_LINE: Final = 200
_BLOCKS: Final = re.compile(r"^[ \t]*/\*[^*]*(?:\*(?!/)[^*]*)*\*/$", re.MULTILINE)
_LINES: Final = re.compile(r"^\s+(?://.*\n\s*)*|^//.*\n", re.MULTILINE)


class PackError(Exception):
    """A module uses a form of import or export that cannot be packed."""


def strip(source: str) -> str:
    """Returns a module's source without comments and insignificant white space.

    Strings, template literals, regular expressions and line breaks are kept.
    """
    bare = "".join(f"{line.strip()}\n" for line in _without_comments(source).splitlines())
    tight = _between(bare, _tight, lambda match: match[0])
    return re.sub(r"\n{2,}", "\n", tight).lstrip("\n")


def _between(code: str, change: Callable[[str], str], token: Callable[[re.Match[str]], str]) -> str:
    """Applies `token` to strings, templates and regular expressions, and `change` to other code."""
    out, end = [], 0
    for match in _TOKEN.finditer(code):
        out += [change(code[end : match.start()]), token(match)]
        end = match.end()
    return "".join([*out, change(code[end:])])


def _tight(code: str) -> str:
    return _SPACE.sub(r"\1", _OPERATOR.sub(r"\1\2", code))


def shorten(code: str) -> str:
    """Returns a module's code with shortened `#private` names, which no other module can use."""
    counts = Counter(_PRIVATE.findall(code))
    short = {name: _letters(place) for place, (name, _) in enumerate(counts.most_common())}
    return _PRIVATE.sub(lambda match: f"#{short[match[1]]}", code)


def _letters(place: int) -> str:
    rest, last = divmod(place, len(ascii_letters))
    return (_letters(rest - 1) if rest else "") + ascii_letters[last]


def _without_comments(source: str) -> str:
    return _TOKEN.sub(_kept, source)


def _kept(match: re.Match[str]) -> str:
    kept: str = match["kept"] or ""
    if kept.startswith("`") and ("\n" in kept or kept.count("${") > kept.count("}")):
        raise PackError(f"a template literal spans lines or is nested: {kept}")
    return kept


def pack(read: Read, entry: str, home: str) -> str:
    """Packs the entry and all of its imports into one module.

    `home` is the JavaScript expression that replaces `import.meta.url` in every module.

    Raises: PackError.
    """
    packed = _Pack(read)
    packed.add(entry, entry=True)
    body = packed.body().replace("import.meta.url", "home")
    exported = ", ".join(packed.exported)
    return f"const home = {home};\n{body}export {{ {exported} }};\n"


class _Pack:
    def __init__(self, read: Read) -> None:
        self._read = read
        self._done: set[str] = set()
        self._owners: dict[str, str] = {}
        self._numbers: dict[str, str] = {}
        self._parts: list[str] = []
        self._vendored_parts: set[int] = set()
        self.exported: list[str] = []

    def body(self) -> str:
        """Returns the code of all modules, with shortened names and inlined number constants."""
        kept = {*self.exported, *self._numbers, _FILLED_LATER}
        capital = [name for name in self._owners if _CAPITAL.fullmatch(name) and name not in kept]
        short = {name: f"${_letters(place)}" for place, name in enumerate(capital)} | self._numbers

        def renamed(code: str) -> str:
            return _CAPITAL.sub(lambda match: short.get(match[0], match[0]), code)

        def token(match: re.Match[str]) -> str:
            kept = match[0]
            if not kept.startswith("`"):
                return kept
            return _FILLED.sub(lambda filled: renamed(filled[0]), kept)

        return "".join(
            part if place in self._vendored_parts else _between(part, renamed, token)
            for place, part in enumerate(self._parts)
        )

    def add(self, place: str, *, entry: bool = False) -> None:
        """Adds a module's code after its imports; only the entry module's exports are recorded."""
        if place in self._done:
            return
        self._done.add(place)
        code = _without_comments(self._read(place))
        for name in _TOP.findall(_EXPORT.sub("", code)):
            if (other := self._owners.setdefault(name, place)) != place:
                raise PackError(f"{name} is defined at the top level of both {other} and {place}")
        code = _IMPORT.sub(lambda match: self._import(place, match), code)
        code = _REEXPORT.sub(lambda match: self._reexport(place, match, entry), code)
        if entry:
            self.exported += _EXPORTED.findall(code)
        code = _EXPORT.sub("", code)
        code = _NUMBER.sub(self._number, code)
        if left := _LEFT.search(code):
            raise PackError(f"{place}: {left[0]!r} cannot be packed")
        self._parts.append(_END.sub("", shorten(strip(code))))

    def _import(self, place: str, match: re.Match[str]) -> str:
        wanted = normpath(join(dirname(place), match["place"]))
        if match["sheet"]:
            rules = json.dumps(squeeze(self._read(wanted)), ensure_ascii=False)
            name = match["sheet"]
            self._parts.append(f"const {name}=new CSSStyleSheet();{name}.replaceSync({rules});\n")
        elif "/vendor/" in f"/{wanted}":
            self._vendored_parts.add(len(self._parts))
            self._parts.append(self._vendored(wanted, match["names"]))
        else:
            self.add(wanted)
        return ""

    def _reexport(self, place: str, match: re.Match[str], entry: bool) -> str:
        self.add(normpath(join(dirname(place), match["place"])))
        if entry:
            self.exported += [name.strip() for name in match["names"].split(",") if name.strip()]
        return ""

    def _number(self, match: re.Match[str]) -> str:
        name, value = match.groups()
        if name in self.exported:
            return match[0]
        self._numbers[name] = value.replace("_", "")
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
        if len(body) < _MINIFIED_LINE * body.count("\n"):
            body = _LINES.sub("", _BLOCKS.sub("", body))
        return (
            f"const {{ {', '.join(names)} }} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();\n"
        )


def squeeze(css: str) -> str:
    """Returns a stylesheet without comments, redundant white space and quotes around words."""
    bare = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    bare = re.sub(r"\s+", " ", bare)
    bare = re.sub(r'="([a-z]+)"\]', r"=\1]", bare)
    bare = re.sub(r"\s?([{};,>])\s?", r"\1", bare).replace(": ", ":").replace(";}", "}").strip()
    return re.sub(r"(?<=[:, (-])0(?=\.\d)| (?=!)", "", bare)
