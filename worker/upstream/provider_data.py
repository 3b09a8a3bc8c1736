"""Data that a provider puts into an item and wants back with it, such as a thought signature.

It is for the model that made it: another one's provider refuses or misreads it. So the item keeps
the name of that model, and what has no name is taken to be of the model that the request names.

    a call        `extra_content`, with `holdline_model` in it, and the `reasoning_details` of its
                  message as `holdline_reasoning_details`
    reasoning     `holdline_field`, the field of a message in which it came, and `holdline_model`
"""

from __future__ import annotations

from typing import Any, Final

from .deltas import Malformed
from .surrogates import encodable

MAX_DEPTH: Final = 16
MAKER: Final = "holdline_model"
DETAILS: Final = "holdline_reasoning_details"
# Fields of a piece of reasoning that grow from chunk to chunk.
_GROWING: Final = ("text", "summary")
_OPEN: Final = 32  # how many pieces may grow at once
_LARGEST: Final = 2**63


def provider_data(value: Any) -> dict[str, Any] | None:
    """The object as it can be stored, or None if it is none or empty.

    Raises: Malformed if it is nested too deeply.
    """
    return storable(value, MAX_DEPTH) if isinstance(value, dict) and value else None


def storable(value: Any, depth: int = -1) -> Any:
    """The value as a log can hold it: without lone surrogates and numbers of more than 64 bits.

    Raises: Malformed if it has more than `depth` levels; -1 allows any number.
    """
    if not depth:
        raise Malformed("provider data that is nested too deeply")
    match value:
        case str():
            return encodable(value)
        case int() if not -_LARGEST <= value < _LARGEST:
            return str(value)  # MessagePack has no larger numbers
        case dict():
            return {encodable(name): storable(inner, depth - 1) for name, inner in value.items()}
        case list():
            return [storable(inner, depth - 1) for inner in value]
        case _:
            return value


def marked(
    extra: dict[str, Any] | None, maker: str, details: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """The `extra_content` of a call as it is stored, or None if there is nothing for its maker."""
    if not extra and not details:
        return None
    return {**(extra or {}), MAKER: maker} | ({DETAILS: details} if details else {})


def own(item: dict[str, Any], maker: str, named: str) -> dict[str, Any]:
    """The item as it goes to the model `maker`, where the request names the model `named`.

    A call has its `reasoning_details` beside its `extra_content`.
    """
    match item:
        case {"type": "function_call", "extra_content": dict(extra)}:
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
    """Adds the `reasoning_details` of a chunk to those before it, whose pieces they continue."""
    for piece in pieces:
        key = (piece.get("type"), piece.get("index"))
        # A piece without an index can only continue the last one.
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
    """True if the piece is another one than that before it, in spite of its index."""
    ids = before.get("id"), piece.get("id")
    return (None not in ids and ids[0] != ids[1]) or bool(before.get("data") and piece.get("data"))


def _grown(old: str, piece: str, form: str) -> str:
    # MiniMax repeats the text so far in each chunk.
    if form.casefold().startswith("minimax") and piece.startswith(old):
        return piece
    return old + piece
