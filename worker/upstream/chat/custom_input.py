"""Decodes the input of a custom tool from the arguments of a function call, while they arrive.

Chat completions have only functions, so a custom tool is sent as a function with one parameter, the
string `input`. A model then writes `{"input": "..."}`, and clients expect the text of this string.

The decoder distinguishes these forms, for any division of the arguments into pieces:

    {"input": "..."}      The string is decoded and passed on piece by piece.
    plain text            Text that begins with neither `{` nor `"` is passed on piece by piece.
    "..."                 A JSON string is held until the end and then decoded.
    another object        An object is held until the end. If it contains the string `input` beside
                          other members, the call is malformed, because the other members would be
                          lost. All other objects are passed on as plain text, except that `{}`
                          means an empty input.
"""

from __future__ import annotations

import json
import re
from enum import Enum
from typing import Any, Final

from worker.upstream.deltas import Malformed
from worker.upstream.surrogates import SurrogateJoiner, encodable

PARAMETER: Final = "input"
# A longer space makes the arguments count as an unknown form, so that the undecided part is short.
_SPACE: Final = r"\s{0,16}"
_HEAD: Final = re.compile(rf'{_SPACE}\{{{_SPACE}"{PARAMETER}"{_SPACE}:{_SPACE}"')
_TAIL: Final = re.compile(r"\s*\}\s*")
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
# The characters of a JSON string up to its end, an incomplete escape or an invalid `\u`. Unescaped
# control characters are accepted, because many models write line breaks without an escape.
_DECODABLE: Final = re.compile(r'(?:[^"\\]+|\\u[0-9a-fA-F]{4}|\\[^u])*', re.DOTALL)
_INCOMPLETE: Final = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_ESCAPED: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_KEPT: Final = '"\\/'


def _beginnings(parts: list[str]) -> re.Pattern[str]:
    """Returns a pattern that matches each beginning of the sequence of the patterns `parts`."""
    pattern = ""
    for part in reversed(parts):
        pattern = f"(?:{part}{pattern})?"
    return re.compile(pattern + _SPACE)


_BEGUN: Final = _beginnings(
    [rf"{_SPACE}\{{", f'{_SPACE}"', *PARAMETER, '"', f"{_SPACE}:", f'{_SPACE}"']
)


class _State(Enum):
    HEAD = "the form of the arguments is still unknown"
    STRING = "within the string `input`"
    TAIL = "behind the string `input`"
    PLAIN = "within plain text"
    HELD = "within arguments that are decoded at the end"


class InputDecoder:
    """Decodes the arguments of one call. Call `feed` for each piece, then `end` once."""

    def __init__(self) -> None:
        self._state = _State.HEAD
        self._held: list[str] = []
        self._joiner = SurrogateJoiner()

    def feed(self, text: str) -> str:
        """Takes the next piece of the arguments, and returns the text that it adds to the input."""
        match self._state:
            case _State.PLAIN:
                return text
            case _State.HEAD:
                return self._head(text)
            case _State.STRING:
                return self._string(text)
            case _State.HELD | _State.TAIL:
                self._held.append(text)
                return ""

    def end(self) -> str:
        """Ends the arguments, and returns the rest of the input.

        Raises: Malformed if the arguments are incomplete, or contain other members than `input`.
        """
        match self._state:
            case _State.PLAIN:
                return ""
            case _State.HEAD | _State.HELD:
                return _whole(self._taken())
            case _State.TAIL if _TAIL.fullmatch(self._taken()):
                return ""
            case _:
                raise Malformed("the input of a custom tool is not complete")

    def _taken(self) -> str:
        text, self._held = "".join(self._held), []
        return text

    def _head(self, text: str) -> str:
        text = self._taken() + text
        if match := _HEAD.match(text):
            self._state = _State.STRING
            return self._string(text[match.end() :])
        begun = text.lstrip()
        if begun and begun[0] not in '{"':
            self._state = _State.PLAIN
            return text
        if not _BEGUN.fullmatch(text):
            self._state = _State.HELD
        self._held.append(text)
        return ""

    def _string(self, text: str) -> str:
        text = self._taken() + text
        if '"' not in text and "\\" not in text:
            return self._joiner.joined(text)
        found: list[str] = []
        position = 0
        while position < len(text):
            match = _DECODABLE.match(text, position)
            position = match.end() if match else position
            found.append(_unescaped(match[0]) if match else "")
            if position == len(text):
                break
            if text[position] == '"':
                self._state = _State.TAIL
                self._held.append(text[position + 1 :])
                break
            if _INCOMPLETE.match(text, position):
                self._held.append(text[position:])
                break
            # An invalid escape, such as `\user`, is kept as it is.
            found.append(text[position : position + 2])
            position += 2
        return self._joiner.joined("".join(found), last=self._state is _State.TAIL)


def _unescaped(text: str) -> str:
    try:
        decoded: str = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return _ESCAPE.sub(_character, text)
    return decoded


def _character(escape: re.Match[str]) -> str:
    code, character = escape.groups()
    if code:
        return chr(int(code, 16))
    if character in _KEPT:
        return str(character)
    # An invalid escape, such as `\d` in a regular expression, is kept as it is.
    return _ESCAPED.get(character, escape[0])


def _whole(text: str) -> str:
    """Returns the input that complete arguments contain.

    Raises: Malformed.
    """
    try:
        value: Any = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return text
    match value:
        case str():
            return encodable(value)
        case {"input": str(given)}:
            if len(value) > 1:
                raise Malformed("the arguments of a custom tool have unknown members")
            return encodable(given)
        case dict() if not value:
            return ""
        case _:
            return text
