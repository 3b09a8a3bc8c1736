"""Reads the names of parameters, tools, items and more from the types of the official SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Required, get_args, get_origin
from typing import Literal as OtherLiteral

from openai.types.responses import response_create_params as created
from openai.types.responses.response_includable import ResponseIncludable
from openai.types.responses.response_input_param import ResponseInputItemParam
from openai.types.responses.tool_choice_options import ToolChoiceOptions
from openai.types.responses.tool_param import ToolParam
from typing_extensions import get_type_hints, is_typeddict


def parameters() -> set[str]:
    """Returns the names of all parameters of `responses.create`."""
    kinds = created.ResponseCreateParamsStreaming, created.ResponseCreateParamsNonStreaming
    return {name for kind in kinds for name in get_type_hints(kind)}


def tools() -> set[str]:
    """Returns the types of all tools."""
    return _types(ToolParam)


def tool_choices() -> set[str]:
    """Returns the types of all tool choices, and those that are only a word."""
    words = set(_words(ToolChoiceOptions))
    return words | _types(created.ToolChoice)


def items() -> set[str]:
    """Returns the types of all input items."""
    return _types(ResponseInputItemParam)


def includes() -> set[str]:
    """Returns the values of `include`."""
    return set(_words(ResponseIncludable))


def items_that_need_an_id() -> set[str]:
    """Returns the types of the input items whose id is required."""
    return {
        word
        for one in _dicts(ResponseInputItemParam)
        for hints in [get_type_hints(one, include_extras=True)]
        if get_origin(hints.get("id")) is Required
        for word in _words(hints["type"])
    }


def item_members(kind: str) -> set[str]:
    """Returns the names of all members that an input item of this type can have."""
    found = [one for one in _dicts(ResponseInputItemParam) if kind in _types(one)]
    return {name for one in found for name in get_type_hints(one)}


def _types(kind: Any) -> set[str]:
    return {
        word for one in _dicts(kind) for word in _words(get_type_hints(one).get("type", object))
    }


def _dicts(kind: Any) -> Iterator[Any]:
    """Yields the typed dictionaries of a union."""
    if is_typeddict(kind):
        yield kind
    for inner in get_args(kind):
        yield from _dicts(inner)


def _words(kind: Any) -> Iterator[str]:
    """Yields the values of the literal types in a type."""
    if get_origin(kind) in (Literal, OtherLiteral):
        yield from get_args(kind)
    else:
        for inner in get_args(kind):
            yield from _words(inner)
