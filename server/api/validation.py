"""Converts request values to structs, with errors that name the field and have a code."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from .problem import Problem, invalid

# The name of a type that the standard may get in a later version.
TypeName = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}\Z")]

_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?:key` in `)?(?P<path>\$.*)`)?$", re.DOTALL)
_T = TypeVar("_T")
_pack: Final = msgspec.msgpack.Encoder().encode


def convert(value: Any, kind: type[_T], place: str = "") -> _T:
    """Converts a value to a struct; `place` is the value's place in the request.

    Raises: Problem.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _problem(str(error), place) from None


def check_shape(value: Any, kind: type[msgspec.Struct], place: str) -> None:
    """Raises Problem if a value lacks a member of the struct, or has one of another type."""
    convert(value, kind, place)


def check_storable(value: Any, place: str) -> None:
    """Raises Problem if a value contains an integer that MessagePack cannot express."""
    try:
        _pack(value)
    except OverflowError:
        raise invalid(place, f"Integers in '{place}' must fit in 64 bits.") from None


def _problem(text: str, place: str) -> Problem:
    match = _PATH.match(text)
    what, path = (match["what"], match["path"]) if match else (text, None)
    param = (place + (path or "").removeprefix("$")).lstrip(".") or None
    if missing := re.search(r"missing required field `(\w+)`", what):
        param = f"{param}.{missing[1]}" if param else missing[1]
        return invalid(param, f"'{param}' is required.", "missing_required_parameter")
    if unknown := re.search(r"contains unknown field `(.*)`", what, re.DOTALL):
        name = unknown[1][:64]
        param = f"{param}.{name}" if param else name
        return invalid(param, f"Unknown parameter: '{param}'.", "unknown_parameter")
    what = re.sub("^Invalid (?:enum )?value ('.*')$", r"\1 is not supported", what)
    return invalid(param, f"Invalid value for '{param}': {what[:1].lower()}{what[1:]}.")
