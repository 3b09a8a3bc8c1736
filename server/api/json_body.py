"""Decodes the JSON of a body or message, within limits of depth and number."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from .problem import Problem, invalid

# Limits for a body or message, in JSON and in MessagePack: the nesting depth of arrays and objects,
# and the total number of values. A value of one or two bytes takes more memory and time than its
# size suggests.
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000
TOO_DEEP: Final = f"at most {MAX_DEPTH} levels of nesting are allowed"
TOO_MANY_VALUES: Final = f"at most {MAX_VALUES} values are allowed"

# Matches half of a surrogate pair. If JavaScript cuts a string within an emoji, the string ends in
# such a half.
_HALF_PAIR: Final = re.compile(r"\\u[dD][89abAB][\da-fA-F]{2}(?!\\u[dD][c-fC-F])")


def parse_json(data: bytes | str) -> dict[str, Any]:
    """Decodes the JSON object of a body or message.

    Raises: Problem.
    """
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise _not_json(_reason(data, error)) from None
    except RecursionError:
        raise _not_json(TOO_DEEP) from None
    if not isinstance(value, dict):
        raise invalid(None, "The request must be a JSON object.", "invalid_json")
    # The nesting cannot be deeper than the number of opening brackets, and every value follows a
    # bracket or a comma. Counting these characters shows that most bodies are within the limits,
    # without a walk through their values.
    marks = ("{", "[", ",") if isinstance(data, str) else (b"{", b"[", b",")
    objects, arrays, commas = map(data.count, marks)  # type: ignore[arg-type]
    if objects + arrays > MAX_DEPTH or objects + arrays + commas > MAX_VALUES:
        _check_size(value)
    return value


def parse_text(text: str) -> Any:
    """Decodes the JSON of a value that a model or a client has sent as text.

    Raises: ValueError for a text that is not JSON, for half a surrogate pair, which cannot be
    encoded again, and for a value that exceeds `MAX_DEPTH` or `MAX_VALUES`.
    """
    try:
        value = msgspec.json.decode(text)
        _check_size(value)
    except (msgspec.DecodeError, RecursionError, Problem) as error:
        raise ValueError("the text is not valid JSON") from error
    return value


def _not_json(why: str) -> Problem:
    return invalid(None, f"Invalid JSON: {why}.", "invalid_json")


def reason_of(error: Exception) -> str:
    """Returns the reason for a decoding error, in lower case, for use after a colon."""
    if isinstance(error, UnicodeError):
        return "the text is not valid UTF-8"
    what = str(error).rpartition(" is malformed: ")[2]
    return what[:1].lower() + what[1:]


def _reason(data: bytes | str, error: Exception) -> str:
    """Returns the reason for a decoding error. Corrects the reason for half a surrogate pair."""
    text = data if isinstance(data, str) else data.decode(errors="replace")
    half = _HALF_PAIR.search(text)
    if half and not isinstance(error, UnicodeError):
        return f"the escape sequence {half[0]} is an unpaired surrogate"
    return reason_of(error)


# The decoder creates only containers of the types dict and list, so comparing types is the fastest
# check.
_HOLDERS: Final = frozenset({dict, list})


def _check_size(value: Any) -> None:
    """Raises Problem if the value exceeds `MAX_DEPTH` or `MAX_VALUES`."""
    level, values = [value], 0
    for _ in range(MAX_DEPTH):
        values += sum(map(len, level))
        if values > MAX_VALUES:
            raise _not_json(TOO_MANY_VALUES)
        level = [
            inner
            for holder in level
            for inner in (holder.values() if type(holder) is dict else holder)
            if type(inner) in _HOLDERS
        ]
        if not level:
            return
    raise _not_json(TOO_DEEP)
