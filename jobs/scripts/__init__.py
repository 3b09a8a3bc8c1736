"""Loads the Lua scripts, and creates for each a Python function that returns a call to it.

Functions and constants that several scripts need are in files whose names begin with `_`. At each
call, Redis runs a script from its first line and creates all of its functions again. So a script
lists the shared parts that it uses, and only these parts and their dependencies are put before it:

    -- @include fields push

The header of a script lists its arguments in order, separated by commas. Text in parentheses
explains an argument. `...` after the last name of ARGV collects all remaining values in a table:

    -- KEYS  job_key, log_key
    -- ARGV  claim, expected (length of the log), entries...

Each name is a local variable of the script and a keyword argument of the Python function. So a
wrong, missing or unknown name raises a TypeError before anything is sent:

    await pipe.run(calls.append(job_key=..., log_key=..., claim=..., expected=5, entries=[b"..."]))
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FOLDER: Final = Path(__file__).parent
# The files of shared parts, in order. A part may use only parts from its own file or from files
# earlier in this list.
_PARTS: Final = (
    "_shared.lua",
    "_provider.lua",
    "_fair_queue.lua",
    "_limits.lua",
    "_conversations.lua",
    "_feeds.lua",
)
_COMMENT: Final = re.compile(r"^ *--.*\n", re.MULTILINE)
_PART: Final = re.compile(r"^local (?:function )?(\w+)(?:.*\n)+?(?=local |\Z)", re.MULTILINE)
_INCLUDE: Final = re.compile(r"^-- @include (.*)\n", re.MULTILINE)
# Matches strings, comments and fields of tables. Words in them are not names of shared parts.
_NO_NAME: Final = re.compile(r"'[^']*'|--.*|(?<=\w)\.\w+")

_HEADER: Final = r"^-- {}  (.*(?:\n--   .*)*)"
_EXPLANATION: Final = re.compile(r"\([^)]*\)")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


# A call to a script: its name, the number of its keys, the keys, and the arguments.
Call = tuple[Any, ...]


class WrongArguments(Exception):
    """The header or an `@include` line of a script is invalid."""


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script. `source` is its text for SCRIPT LOAD, and `sha` its digest for EVALSHA.

    `keys` and `args` are the names in its header. `rest` is the name of the table that collects the
    remaining values, or "" if the script has no such table.
    """

    name: str
    source: bytes
    sha: bytes
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str

    def caller(self) -> Callable[..., Call]:
        """Returns a function that takes keyword arguments and returns a call to this script.

        The function is generated as source code, like the `__new__` of a namedtuple. Code that
        compared the keyword arguments itself would add a microsecond to each append.
        """
        names = [*self.keys, *self.args, *([self.rest] if self.rest else [])]
        values = [*self.keys, *self.args, *([f"*{self.rest}"] if self.rest else [])]
        made = f"{self.name!r}, {len(self.keys)}, {', '.join(values)}"
        code = f"lambda *, {', '.join(names)}: ({made})"
        function: Callable[..., Call] = eval(code)  # noqa: S307 - `_arguments` has checked the names
        function.__qualname__ = self.name
        return function


def _declared(source: str, heading: str) -> list[str]:
    match = re.search(_HEADER.format(heading), source, re.MULTILINE)
    if match is None:
        raise WrongArguments(f"the script's header does not declare {heading}")
    return [name.strip(" \n-") for name in _EXPLANATION.sub("", match[1]).split(",")]


def _arguments(source: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Returns the names of the keys, the arguments and the last table in a script's header."""
    keys, args, rest = _declared(source, "KEYS"), _declared(source, "ARGV"), ""
    if args[-1].endswith("..."):
        rest = args.pop().removesuffix("...")
    names = [*keys, *args, *([rest] if rest else [])]
    wrong = [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]
    if wrong:
        raise WrongArguments(f"invalid or duplicate names: {', '.join(wrong)}")
    return tuple(keys), tuple(args), rest


def _locals(keys: tuple[str, ...], args: tuple[str, ...], rest: str) -> str:
    """Returns the Lua lines that assign the keys and arguments to local variables."""
    values = [f"KEYS[{index}]" for index in range(1, len(keys) + 1)]
    values += [f"ARGV[{index}]" for index in range(1, len(args) + 1)]
    lines = f"local {', '.join(keys + args)} = {', '.join(values)}\n"
    if rest:
        offset = len(args)
        lines += f"local {rest} = {{}}\n"
        lines += f"for index = {offset + 1}, #ARGV do {rest}[index - {offset}] = ARGV[index] end\n"
    return lines


def _names(code: str) -> set[str]:
    return set(re.findall(r"\w+", _NO_NAME.sub("", code)))


def _parts() -> Iterator[tuple[str, str]]:
    for name in _PARTS:
        code = _COMMENT.sub("", (_FOLDER / name).read_text(encoding="utf-8"))
        for part in _PART.finditer(code):
            yield part[1], part[0].rstrip() + "\n"


def check_includes(body: str, parts: set[str]) -> set[str]:
    """Returns the shared parts that a script includes.

    Raises: WrongArguments if the script does not include exactly the parts that it uses.
    """
    included = set(" ".join(_INCLUDE.findall(body)).split())
    used = _names(body) & parts
    if included != used:
        missing, unused = sorted(used - included), sorted(included - used)
        raise WrongArguments(f"@include: missing {missing}, unused or unknown {unused}")
    return included


def _composed(code: str, included: set[str], parts: list[tuple[str, str]]) -> str:
    named = set(included)
    for name, part in reversed(parts):
        if name in named:
            named |= _names(part)
            code = part + code
    return code


def _load_all() -> dict[str, Script]:
    parts, scripts = list(_parts()), {}
    for path in sorted(_FOLDER.glob("[!_]*.lua")):
        first_line, _, body = path.read_text(encoding="utf-8").partition("\n")
        keys, args, rest = _arguments(body)
        included = check_includes(body, {name for name, _ in parts})
        code = _locals(keys, args, rest) + _INCLUDE.sub("", body)
        code = _composed(code, included, parts)
        source = f"{first_line}\n{code}".encode()
        sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
        scripts[path.stem] = Script(path.stem, source, sha.encode(), keys, args, rest)
    return scripts


SCRIPTS: Final = _load_all()
# The functions that create calls, one for each script. Example: `calls.append(...)`.
calls: Final = SimpleNamespace(**{name: script.caller() for name, script in SCRIPTS.items()})
