"""Checks a request against the abilities of the endpoints that may answer it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs.config.models import CHAT, RESPONSES
from jobs.support import INCLUDES, PARAMETERS, REFUSED, TOOL_CHOICES
from jobs.tools import (
    SOURCES,
    chat_refusals,
    chat_refuses_item,
    chat_refuses_tool,
    redefined,
    sent_tools,
)

from .api.items import (
    FunctionCallOutput,
    InputFile,
    InputImage,
    Message,
    Passed,
)
from .api.problem import Problem, invalid, name_list
from .api.results import place_of_reference
from .api.tools import checked_tools, type_of

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
_REFUSED_PARAMETERS: Final = tuple(name for name, row in PARAMETERS.items() if row.chat is REFUSED)


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
    _check_definitions(create, first)


def check_items(
    catalog: Catalog,
    name: str,
    who: Principal,
    context: Context,
    items: list[dict[str, Any]],
    given: list[Item],
) -> None:
    """Checks the items that a request does not contain itself, but continues from or refers to.

    Such items may belong to a turn of another model. Types of items that the model does not support
    are left out of the call, but a message without its files would mean something else. `given` is
    the input as the client sent it.

    Raises: Problem, which names the parameter or the reference that leads to the item.
    """
    if RESPONSES in (catalog.apis(name) or {CHAT}):
        return
    for source, found in ((context.source, context.items), ("", items)):
        for item in found:
            if chat_refuses_item(item["type"]):
                continue
            for member in ("content", "output"):
                parts = item.get(member)
                for _, what in _files(parts if isinstance(parts, list) else [], ""):
                    place = source or place_of_reference(item["id"], given)
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
    """Yields each of the client's own items with its place in the request."""
    for index, item in enumerate(create.items[first:]):
        yield f"input[{index}]", item


def _provider_tools(create: Create, first: int) -> Iterator[tuple[str, str]]:
    """Yields the place and the name of each tool and item that only a provider can handle."""
    for found in chat_refusals(create.tools or ()):
        yield found.place, found.what
    for place, item in _placed(create, first):
        if not isinstance(item, Passed):
            continue
        if chat_refuses_item(item.fields["type"]):
            yield f"{place}.type", f"items of the type '{item.fields['type']}'"
        for found in chat_refusals(sent_tools(item.fields), f"{place}.tools"):
            yield found.place, found.what


def _check_definitions(create: Create, first: int) -> None:
    """Raises Problem if two tools of the request have one name, but different definitions.

    A chat model cannot tell them apart. The tools of `tool_search_output` repeat others.
    """
    tools = [(f"tools[{index}]", tool) for index, tool in enumerate(create.tools or ())]
    for place, item in _placed(create, first):
        if isinstance(item, Passed) and item.fields["type"] == "additional_tools":
            added = checked_tools(sent_tools(item.fields), f"{place}.tools")
            tools += [(f"{place}.tools[{index}]", tool) for index, tool in enumerate(added)]
    for place, noun in redefined(tools):
        message = f"'{place}' defines the {noun} again. Rename it, or send one definition only."
        raise invalid(place, message)


def _refused(create: Create, first: int) -> Iterator[tuple[str, str]]:
    """Yields the place and the name of each other part that a chat model cannot handle."""
    for name in _REFUSED_PARAMETERS:
        if getattr(create, name, None):
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
    # Only a variable can insert a file into the messages of a template.
    variables = None if create.prompt is None else create.prompt.variables
    for name, value in (variables or {}).items():
        if (found := _file(value)) is not None:
            yield f"prompt.variables.{name}.{found[0]}", found[1]
    for place, item in _placed(create, first):
        match item:
            case Message(content=list(parts)):
                yield from _files(parts, f"{place}.content")
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
        if (found := _file(part)) is not None:
            yield f"{place}[{index}].{found[0]}", found[1]


def _file(part: Any) -> tuple[str, str] | None:
    """Returns the member and the noun of a file that only a provider can fetch, or None."""
    match part:
        case InputImage(file_id=str()) | InputFile(file_id=str()) | {"file_id": str()}:
            return "file_id", "files by id"
        case InputFile(file_url=str()) | {"file_url": str()}:
            return "file_url", "files by URL"
        case _:
            return None
