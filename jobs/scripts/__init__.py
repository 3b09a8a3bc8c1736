"""Loads the Lua scripts, one file for each transition, and makes functions that call them.

Functions and constants that several scripts need are in files whose names begin with `_`. Redis
runs a script from its first line at each call and creates each of its functions again. So a script
names the shared parts that it uses, and only these and their dependencies are prepended to it:

    -- @include fields push

The header of a script names its arguments in order, separated by commas; text in parentheses
explains one. `...` after the last name of ARGV collects all the remaining values in a table:

    -- KEYS  job_key, log_key
    -- ARGV  claim, expected (length of the log), entries...

Each name is a local variable of the script and a keyword argument of its call, so a wrong, missing
or unknown name is a TypeError before anything is sent:

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
# Each file may use the parts of the files before it.
_PARTS: Final = ("_shared.lua", "_provider.lua", "_fair_queue.lua", "_limits.lua")
_COMMENT: Final = re.compile(r"^ *--.*\n", re.MULTILINE)
_PART: Final = re.compile(r"^local (?:function )?(\w+)(?:.*\n)+?(?=local |\Z)", re.MULTILINE)
_INCLUDE: Final = re.compile(r"^-- @include (.*)\n", re.MULTILINE)
# Strings, comments and fields of tables, which never refer to a part.
_NO_NAME: Final = re.compile(r"'[^']*'|--.*|(?<=\w)\.\w+")

_HEADER: Final = r"^-- {}  (.*(?:\n--   .*)*)"
_EXPLANATION: Final = re.compile(r"\([^)]*\)")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


# A call: the name of a script, the number of its keys, its keys and its arguments.
Call = tuple[Any, ...]


class WrongArguments(Exception):
    """The header of a script is malformed, or its includes are wrong."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script: `source` loads it into Redis, `sha` calls it.

    `keys` and `args` are the names in its header. `rest` is the name of the table that collects the
    remaining values; "" if the script has none.
    """

    name: str
    source: bytes
    sha: bytes
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str

    def caller(self) -> Callable[..., Call]:
        """Returns the function that makes a call of this script from keyword arguments.

        The function is generated, like a namedtuple's `__new__`: matching keyword arguments by hand
        would cost a microsecond for each append.
        """
        names = [*self.keys, *self.args, *([self.rest] if self.rest else [])]
        values = [*self.keys, *self.args, *([f"*{self.rest}"] if self.rest else [])]
        made = f"{self.name!r}, {len(self.keys)}, {', '.join(values)}"
        code = f"lambda *, {', '.join(names)}: ({made})"
        function: Callable[..., Call] = eval(code)  # noqa: S307 - of names, whose form was checked
        function.__qualname__ = self.name
        return function


def _declared(source: str, heading: str) -> list[str]:
    match = re.search(_HEADER.format(heading), source, re.MULTILINE)
    if match is None:
        raise WrongArguments(f"the script's header does not declare {heading}")
    return [name.strip(" \n-") for name in _EXPLANATION.sub("", match[1]).split(",")]


def _arguments(source: str) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Returns the names of the keys, the arguments, and the table of the remaining arguments."""
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
    """Returns the parts that a script includes.

    Raises: WrongArguments if they are not exactly the parts that it uses.
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
# One function for each script, as in `calls.append(...)`.
calls: Final = SimpleNamespace(**{name: script.caller() for name, script in SCRIPTS.items()})
