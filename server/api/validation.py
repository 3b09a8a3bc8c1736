"""Converts request values to structs, with errors that name the field and have a code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from .problem import Problem, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable

# The name of a type that the standard may get in a later version.
TypeName = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")]

# The place in the error message of msgspec. `[...]` stands for the value of any key of a map.
_PATH: Final = re.compile(
    r"^(?P<what>.*) - at `(?P<of_key>key` in `)?(?P<path>\$[^`]*)`$", re.DOTALL
)
_ANY_KEY: Final = "[...]"
_STEPS: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_MAX_SHOWN: Final = 64  # maximum number of characters of a client's name in an error
_MIN_INTEGER: Final = -(2**63)
_MAX_INTEGER: Final = 2**64 - 1
_T = TypeVar("_T")
# The largest sequence number that every client can represent.
MAX_SEQUENCE: Final = 2**53
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_pack: Final = msgspec.msgpack.Encoder().encode


class LargeInteger(ValueError):
    """An integer that MessagePack cannot express, because it exceeds 64 bits.

    `place` is the integer's place in the value that contains it, such as `.a[0].b`.
    """

    def __init__(self, place: str) -> None:
        super().__init__("integers must fit in 64 bits")
        self.place = place


def convert(value: Any, kind: type[_T], place: str = "") -> _T:
    """Converts a value to a struct; `place` is the value's place in the request.

    Raises: Problem.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _problem(error, value, kind, place) from None


def check_shape(value: Any, kind: type[msgspec.Struct], place: str) -> None:
    """Raises Problem if a value lacks a member of the struct, or has one of another type."""
    convert(value, kind, place)


def check_storable(value: Any, place: str) -> None:
    """Raises Problem if a value contains an integer that MessagePack cannot express."""
    try:
        require_storable(value)
    except LargeInteger as error:
        raise _invalid((place + error.place).lstrip("."), str(error)) from None


def require_storable(value: Any) -> None:
    """Raises LargeInteger if a value contains an integer that MessagePack cannot express."""
    try:
        _pack(value)
    except OverflowError:
        raise LargeInteger(_large_integer(value) or "") from None


def _large_integer(value: Any) -> str | None:
    """Returns the place of the first integer over 64 bits in a value, or None."""
    inner: Iterable[tuple[str, Any]]
    match value:
        case dict():
            inner = ((f".{str(name)[:_MAX_SHOWN]}", one) for name, one in value.items())
        case list():
            inner = ((f"[{index}]", one) for index, one in enumerate(value))
        case int():
            return None if _MIN_INTEGER <= value <= _MAX_INTEGER else ""
        case _:
            return None
    for step, one in inner:
        if (found := _large_integer(one)) is not None:
            return step + found
    return None


def _problem(error: msgspec.ValidationError, value: Any, kind: type[Any], place: str) -> Problem:
    text = str(error)
    match = _PATH.match(text)
    what, path = (match["what"], match["path"]) if match else (text, "")
    of_key = match is not None and match["of_key"] is not None
    if of_key or _ANY_KEY in path:
        path = _with_key(text, path, value, kind)
    param = (place + path.removeprefix("$")).lstrip(".") or None
    if isinstance(error.__cause__, LargeInteger):
        return _invalid(f"{param or ''}{error.__cause__.place}".lstrip("."), what)
    if missing := re.search(r"missing required field `(\w+)`", what):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return invalid(param, f"'{param}' is required.", "missing_required_parameter")
    if unknown := re.search(r"contains unknown field `(.*)`", what, re.DOTALL):
        name = unknown[1][:_MAX_SHOWN]
        param = f"{param}.{name}" if param else name
        return invalid(param, f"Unknown parameter: '{param}'.", "unknown_parameter")
    what = re.sub("^Invalid (?:enum )?value ('.*')$", r"\1 is not supported", what)
    return _invalid(param, what, "name" if of_key else "value for")


def _invalid(param: str | None, what: str, part: str = "value for") -> Problem:
    return invalid(param, f"Invalid {part} '{param}': {what[:1].lower()}{what[1:]}.")


def _with_key(text: str, path: str, value: Any, kind: type[Any]) -> str:
    """Returns the path of an error with the name of the key that msgspec does not tell.

    A conversion with a part of the map fails with the same error if the part contains the key.
    Halving the map again and again finds the key in few conversions.
    """
    before, _, after = path.partition(_ANY_KEY)
    steps = [name or int(index) for name, index in _STEPS.findall(before)]
    found = value
    for step in steps:
        try:
            found = found[step]
        except (LookupError, TypeError):
            return path
    if not isinstance(found, dict):
        return path
    entries = list(found.items())
    while len(entries) > 1:
        half = entries[: len(entries) // 2]
        changed = _replaced(value, steps, dict(half))
        entries = half if _error_of(changed, kind) == text else entries[len(half) :]
    return f"{before}.{str(entries[0][0])[:_MAX_SHOWN]}{after}" if entries else path


def _replaced(value: Any, steps: list[str | int], new: Any) -> Any:
    """Returns a copy of a value with another value at a place in it."""
    if not steps:
        return new
    copied = value.copy()
    copied[steps[0]] = _replaced(value[steps[0]], steps[1:], new)
    return copied


def _error_of(value: Any, kind: type[Any]) -> str:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        return str(error)
    return ""


def whole_number(written: str, name: str, least: int, most: int) -> int:
    """Parses a whole number of a client. Raises: Problem, which names the field and its limits."""
    if not _WHOLE.fullmatch(written):  # `int` also accepts spaces, underscores and other digits
        raise invalid(name, f"'{name}' must be a whole number.")
    value = int(written) if len(written) < 20 else most + 1
    if not least <= value <= most:
        raise invalid(name, f"'{name}' must be between {least} and {most}.")
    return value
