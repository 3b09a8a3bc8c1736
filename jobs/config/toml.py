"""Decodes the tables of a TOML file into msgspec structs, with errors that name table and key.

An error message says which values a key allows, according to the annotations of the struct. It does
not repeat the invalid value, which may be a secret that was written in the wrong place. This module
does no I/O.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import inspect

from jobs.errors import HoldlineError

_T = TypeVar("_T")

NonEmpty = Annotated[str, msgspec.Meta(pattern=r"\S", description="a non-empty string")]

_RENAMED: Final = {
    "dialect": "api",
    "silence_seconds": "stall_timeout_seconds",
    "total_seconds": "timeout_seconds",
}
_MESSAGE: Final = re.compile(r"(?s)(.*?)(?: - at `\$(.*)`)?")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`")


class InvalidTable(HoldlineError):
    """A TOML file is invalid. The message names the line, or the table and the key."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base class for tables of a TOML file. The fields of a subclass are its allowed keys."""


def parse(text: str, kind: type[_T]) -> _T:
    """Decodes the text of a TOML file into an object of the type `kind`.

    Raises: InvalidTable.
    """
    try:
        values = msgspec.toml.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidTable(f"invalid TOML: {error}") from None
    return convert(values, kind, "")


def convert(values: Any, kind: type[_T], place: str) -> _T:
    """Converts one table of a TOML file into an object of the type `kind`.

    `place` is the dotted name of the table.

    Raises: InvalidTable.
    """
    if not isinstance(values, Mapping):
        table, _, key = place.rpartition(".")
        raise invalid(table, key, "must be a table")
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise _explained(str(error), values, kind, place) from None


def invalid(place: str, key: str, what: str) -> InvalidTable:
    """Returns the error for an invalid key. `place` names its table, or is "" at the top level."""
    return InvalidTable(f"[{place}] {key} {what}" if place else f"{key} {what}")


def _explained(message: str, values: Any, kind: type, place: str) -> InvalidTable:
    """Translates an error message of msgspec into an error that names a table and a key."""
    match = _MESSAGE.fullmatch(message)
    what, path = (match[1], match[2] or "") if match else (message, "")
    steps = [name or int(index) for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path)]
    found = inspect.type_info(kind)
    names = [place] if place else []
    for step in steps:
        found, values = _inside(found, step), values[step]
        if isinstance(step, str):
            names.append(step)
        else:
            names[-1] += f"[{step}]"
    if unknown := _UNKNOWN.fullmatch(what):
        return _unknown_key(unknown[1], values, found, ".".join(names))
    if missing := _MISSING.fullmatch(what):
        return invalid(".".join(names), missing[1], "is missing")
    allowed = _allowed(found)
    problem = f"must be {allowed}" if allowed else f"is invalid: {what[:1].lower()}{what[1:]}"
    return invalid(".".join(names[:-1]), names[-1], problem)


def _unknown_key(key: str, table: Any, found: inspect.Type, place: str) -> InvalidTable:
    if place and isinstance(table[key], dict):
        hint = '; a name that contains a dot must be quoted, as in [models."gpt-4.1-mini"]'
    else:
        known = [each.encode_name for each in getattr(_plain(found), "fields", ())]
        near = [_RENAMED[key]] if _RENAMED.get(key) in known else known
        hint = f"; did you mean {difflib.get_close_matches(key, near, n=1, cutoff=0.0)[0]}?"
    return invalid(place, key, f"is unknown{hint}")


def _plain(found: inspect.Type) -> inspect.Type:
    """Removes the metadata and the alternative None from a type annotation."""
    match found:
        case inspect.Metadata(type=inner):
            return _plain(inner)
        case inspect.UnionType(types=(one, inspect.NoneType())):
            return _plain(one)
        case _:
            return found


def _inside(found: inspect.Type, step: str | int) -> inspect.Type:
    """Returns the type of a field or of a list item, or AnyType if the type is unknown."""
    match _plain(found):
        case inspect.StructType(fields=fields):
            return next(each.type for each in fields if each.encode_name == step)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item):
            return item
        case _:
            return inspect.AnyType()


def _allowed(found: inspect.Type) -> str:
    """Describes the values that a type allows. Returns "" if msgspec's message is better."""
    match found:
        case inspect.Metadata(extra_json_schema={"description": str(description)}):
            return description
        case inspect.UnionType(types=(one, inspect.NoneType())):
            return _allowed(one)
        case inspect.IntType(ge=least, le=most) | inspect.FloatType(ge=least, le=most):
            whole = "whole " if isinstance(found, inspect.IntType) else ""
            return f"a {whole}number between {least:.15g} and {most:.15g}"
        case inspect.LiteralType(values=values):
            return " or ".join(map(str, values))
        case inspect.VarTupleType(item_type=inspect.StrType()):
            return "a list of strings"
        case inspect.VarTupleType(item_type=inspect.StructType(fields=fields)):
            return f"a list of tables with {' and '.join(each.encode_name for each in fields)}"
        case inspect.StrType():
            return "a string"
        case inspect.StructType() | inspect.DictType():
            return "a table"
        case _:
            return ""
