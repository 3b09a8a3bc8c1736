"""Checks a request against the abilities of the endpoints that may answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs.config.models import CHAT, RESPONSES
from jobs.support import INCLUDES, PARAMETERS, REFUSED, TOOL_CHOICES
from jobs.tools import SOURCES, additional_tools, chat_refuses_item, chat_refuses_tool

from .api.items import FunctionCallOutput, InputFile, InputImage, Message, Passed
from .api.problem import Problem, invalid, name_list
from .api.tools import type_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.config.models import Api, Catalog

    from .access.principal import Principal
    from .api.context import Context
    from .api.items import Item
    from .api.request import Create

_DROP_ADVICE: Final = (
    " The operator can have Holdline leave out such tools and items: set"
    ' unsupported_tools = "drop" for the model in the models file (docs/models.md).'
)
# The place of the parts of a template's messages, because only a variable can insert a file.
_OF_TEMPLATE: Final = "prompt.variables"


def check(
    catalog: Catalog, create: Create, params: dict[str, Any], who: Principal, *, first: int = 0
) -> None:
    """Checks that the model, or one of its fallbacks, can handle the request.

    `first` is the number of a template's messages, which precede the client's own items.

    Raises: Problem, which names the parameter, tool, item or part that none of them supports.
    """
    name = params["model"]
    apis = catalog.apis(name) or {CHAT}
    if apis == {RESPONSES}:
        for own in ("holdline_stop", "holdline_seed"):
            if params.get(own) not in (None, []):
                raise _unsupported(catalog, name, who, own, f"the parameter '{own}'", CHAT)
    if RESPONSES in apis:
        return
    if not catalog.drops(name):
        for place, what in _provider_tools(create, first):
            raise _unsupported(catalog, name, who, place, what, advice=_DROP_ADVICE)
    for place, what in _refused(create, first):
        raise _unsupported(catalog, name, who, place, what)


def check_items(
    catalog: Catalog, name: str, who: Principal, context: Context, items: list[dict[str, Any]]
) -> None:
    """Checks the items that a request does not contain itself, but continues from or refers to.

    Such items may belong to a turn of another model. Types of items that the model does not support
    are left out of the call, but a message without its files would mean something else.

    Raises: Problem, which names the parameter that leads to the items.
    """
    if RESPONSES in (catalog.apis(name) or {CHAT}):
        return
    for place, found in ((context.source, context.items), ("input", items)):
        for item in found:
            if chat_refuses_item(item["type"]):
                continue
            for member in ("content", "output"):
                parts = item.get(member)
                for _, what in _files(parts if isinstance(parts, list) else [], ""):
                    raise _unsupported(catalog, name, who, place, f"{what}, which an item contains")


def _unsupported(
    catalog: Catalog,
    name: str,
    who: Principal,
    place: str,
    what: str,
    api: Api = RESPONSES,
    advice: str = "",
) -> Problem:
    """Returns the error for a part of a request that only endpoints with this API can handle.

    The error names models whose own endpoint has this API. A model that only has such a fallback
    could answer without the part.
    """
    others = [
        other
        for other, model in sorted(catalog.models.items())
        if who.may_use_model(other) and model.api == api
    ]
    instead = f"Use a model that can: {name_list(others)}." if others else "Leave it out."
    message = f"Model '{name}' does not support {what}. {instead}{advice}"
    return invalid(place, message, "unsupported_parameter")


def _placed(create: Create, first: int) -> Iterator[tuple[str, Item]]:
    """Yields each item with its place in the request."""
    for index, item in enumerate(create.items, -first):
        yield (_OF_TEMPLATE if index < 0 else f"input[{index}]"), item


def _provider_tools(create: Create, first: int) -> Iterator[tuple[str, str]]:
    """Yields the place and the name of each tool and item that only a provider can handle."""
    for index, tool in enumerate(create.tools or ()):
        if chat_refuses_tool(tool):
            yield f"tools[{index}].type", f"this tool of the type '{tool['type']}'"
    for place, item in _placed(create, first):
        if not isinstance(item, Passed):
            continue
        if chat_refuses_item(item.fields["type"]):
            yield f"{place}.type", f"items of the type '{item.fields['type']}'"
        for number, tool in enumerate(additional_tools(item.fields)):
            if chat_refuses_tool(tool):
                what = f"this tool of the type '{type_of(tool)}'"
                yield f"{place}.tools[{number}].type", what


def _refused(create: Create, first: int) -> Iterator[tuple[str, str]]:
    """Yields the place and the name of each other part that a chat model cannot handle."""
    for name, row in PARAMETERS.items():
        if row.chat is REFUSED and getattr(create, name, None):
            yield name, f"the parameter '{name}'"
    if (create.image or {}).get("context_compression") == "enabled":
        yield "image.context_compression", "compressed images"
    for index, included in enumerate(create.include or ()):
        if included not in INCLUDES:
            yield f"include[{index}]", f"'{included}' in 'include'"
    choice = create.tool_choice
    if isinstance(choice, dict):
        kind = type_of(choice)
        if kind not in TOOL_CHOICES or TOOL_CHOICES[kind].chat is REFUSED:
            yield "tool_choice.type", f"the tool choice '{choice['type']}'"
    if (allowed := _required_tools(create)) and all(map(chat_refuses_tool, allowed)):
        yield "tool_choice", "any of the tools of which 'tool_choice' requires one"
    for place, item in _placed(create, first):
        match item:
            case Message(content=list(parts)):
                for part, what in _files(parts, f"{place}.content"):
                    yield (place if place == _OF_TEMPLATE else part), what
            case FunctionCallOutput(output=list(parts)) | Passed(fields={"output": list(parts)}):
                yield from _files(parts, f"{place}.output")
            case _:
                pass


def _required_tools(create: Create) -> list[dict[str, Any]]:
    """Returns the tools of which `tool_choice` requires one, or [] if it requires none of them."""
    match create.tool_choice:
        case "required":
            items = (item.fields for item in create.items if isinstance(item, Passed))
            added = (item.get("tools") or () for item in items if item["type"] in SOURCES)
            return [*(create.tools or ()), *(tool for tools in added for tool in tools)]
        case {"type": "allowed_tools", "mode": "required", "tools": list(allowed)}:
            return allowed
        case _:
            return []


def _files(parts: list[Any], place: str) -> Iterator[tuple[str, str]]:
    for index, part in enumerate(parts):
        match part:
            case InputImage(file_id=str()) | InputFile(file_id=str()) | {"file_id": str()}:
                yield f"{place}[{index}].file_id", "files by id"
            case InputFile(file_url=str()) | {"file_url": str()}:
                yield f"{place}[{index}].file_url", "files by URL"
            case _:
                pass
