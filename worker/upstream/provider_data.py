"""Handles data that a provider requires again in later requests, such as thought signatures.

The data is sent only to the model that produced it, because the provider of another model may
refuse or misinterpret the data. Therefore an item with such data also has the name of the model. If
the name is missing, the data is assumed to be from the model that the request names.

These fields of an item store the data:

    calls         `extra_content`. It includes the name of the model as `holdline_model`, and the
                  `reasoning_details` of the message as `holdline_reasoning_details`.
    reasoning     `holdline_field`, the message field that contained the reasoning, and
                  `holdline_model`, the name of the model.
"""

from __future__ import annotations

from typing import Any, Final

from jobs.log.items import CALL_TYPES

from .deltas import Malformed
from .surrogates import encodable

MAX_DEPTH: Final = 16
MAKER: Final = "holdline_model"
DETAILS: Final = "holdline_reasoning_details"
# The fields of `reasoning_details` whose text providers send in pieces, over several chunks.
_GROWING: Final = ("text", "summary")
_OPEN: Final = 32  # the maximum number of entries that can still grow
_LARGEST: Final = 2**63


def provider_data(value: Any) -> dict[str, Any] | None:
    """Returns an object in a form that a log can store.

    Returns None if the value is empty or not an object.

    Raises: Malformed if the object is nested too deeply.
    """
    return storable(value, MAX_DEPTH) if isinstance(value, dict) and value else None


def storable(value: Any, depth: int = -1) -> Any:
    """Returns the value without lone surrogates and without numbers of more than 64 bits.

    A log can store neither lone surrogates nor such numbers.

    Raises: Malformed if the value has more than `depth` levels. A `depth` of -1 allows any number
    of levels.
    """
    if not depth:
        raise Malformed("provider data is nested too deeply")
    match value:
        case str():
            return encodable(value)
        case int() if not -_LARGEST <= value < _LARGEST:
            return str(value)  # MessagePack does not support larger numbers
        case dict():
            return {encodable(name): storable(inner, depth - 1) for name, inner in value.items()}
        case list():
            return [storable(inner, depth - 1) for inner in value]
        case _:
            return value


def marked(
    extra: dict[str, Any] | None, maker: str, details: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """Returns the `extra_content` of a call in its stored form, or None if there is no data."""
    if not extra and not details:
        return None
    return {**(extra or {}), MAKER: maker} | ({DETAILS: details} if details else {})


def own(item: dict[str, Any], maker: str, named: str) -> dict[str, Any]:
    """Returns an item, without provider data of any model other than `maker`.

    `named` is the model that the request names. In the result, the `reasoning_details` of a
    function call are a field next to its `extra_content`.
    """
    match item:
        case {"type": kind, "extra_content": dict(extra)} if kind in CALL_TYPES:
            kept = {name: value for name, value in item.items() if name != "extra_content"}
            if extra.get(MAKER, named) != maker:
                return kept
            theirs = {name: value for name, value in extra.items() if name not in (MAKER, DETAILS)}
            details = extra.get(DETAILS)
            return (
                kept
                | ({"extra_content": theirs} if theirs else {})
                | ({"reasoning_details": details} if isinstance(details, list) else {})
            )
        case {"type": "reasoning", "holdline_field": _} if item.get(MAKER, named) != maker:
            return {name: value for name, value in item.items() if name != "holdline_field"}
        case _:
            return item


def add_details(details: list[dict[str, Any]], pieces: list[dict[str, Any]]) -> None:
    """Adds the `reasoning_details` of a chunk to `details`.

    A piece that continues an earlier entry is joined to that entry.
    """
    for piece in pieces:
        key = (piece.get("type"), piece.get("index"))
        # A piece without an index can continue only the last entry.
        near = details[-(_OPEN if piece.get("index") is not None else 1) :]
        before = next((one for one in near if (one.get("type"), one.get("index")) == key), None)
        if before is None or _conflict(before, piece):
            details.append(dict(piece))
            continue
        for name, value in piece.items():
            old = before.get(name)
            if name in _GROWING and isinstance(old, str) and isinstance(value, str):
                before[name] = _grown(old, value, str(before.get("format")))
            elif value is not None:
                before[name] = value


def _conflict(before: dict[str, Any], piece: dict[str, Any]) -> bool:
    """Returns True if two pieces with the same type and index belong to different entries."""
    ids = before.get("id"), piece.get("id")
    return (None not in ids and ids[0] != ids[1]) or bool(before.get("data") and piece.get("data"))


def _grown(old: str, piece: str, form: str) -> str:
    # The provider MiniMax repeats the text so far in each chunk.
    if form.casefold().startswith("minimax") and piece.startswith(old):
        return piece
    return old + piece
