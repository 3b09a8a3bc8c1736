"""Generates JSON schemas from types, and extends them by rules that the types do not express."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

import msgspec

from server.api.items import Item, Passed
from server.api.request import ReasoningEffort
from server.api.tools import TOOLS
from server.api.validation import TypeName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Document = dict[str, Any]

REF: Final = "#/components/schemas/{name}"
# Input items whose `type` field is optional: see `items.typed`.
UNTYPED: Final = {"Message", "ItemReference"}


def schemas_of(kinds: Iterable[Any]) -> tuple[dict[Any, Document], Document]:
    """Returns the JSON schema of each type, and the components that the schemas refer to."""
    kinds = list(dict.fromkeys(kinds))
    read = (*TOOLS, ReasoningEffort)
    found, components = msgspec.json.schema_components([*kinds, *read], ref_template=REF)
    found = found[: len(kinds)]
    components = _portable(components)
    # Each of these objects is kept as the client sent it.
    # The tag of `Passed` is internal, so a client may use it as a type.
    read_items = set(get_args(Item)) - {Passed}
    components["Passed"] = _other_type([one.__struct_config__.tag for one in read_items])
    components["OtherTool"] = _other_type([one.__struct_config__.tag for one in TOOLS])
    named = [*(tool.__name__ for tool in TOOLS), "OtherTool"]
    tool = {"anyOf": [{"$ref": REF.format(name=name)} for name in named]}
    for name in {"Create", "ResponseCreate"} & components.keys():
        fields = components[name]["properties"]
        fields["tools"]["anyOf"][0]["items"] = tool
        fields["reasoning"] = {"$ref": REF.format(name=ReasoningEffort.__name__)}
    for item in UNTYPED & components.keys():
        components[item]["required"].remove("type")
    return dict(zip(kinds, found, strict=True)), components


def _other_type(known: list[Any]) -> Document:
    """Returns the schema of an object with a type other than the known types."""
    name = _portable(msgspec.json.schema(TypeName))
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {**name, "not": {"enum": sorted(known)}}},
        "additionalProperties": True,
    }


def allow_what_is_taken(components: Document, root: str) -> None:
    """Extends a request's schemas by input that the server accepts but the types do not express.

    An optional member may also be null, and an item's id may be empty. Where only one type of
    object is possible, its `type` may be omitted.
    """
    reached, todo = {root}, [root]
    # The names of components that are alternatives in an `anyOf`, where `type` distinguishes them.
    told_apart = {
        name
        for one in _objects(components)
        if sum("$ref" in alternative for alternative in one.get("anyOf", ())) > 1
        for name in _referred(one["anyOf"])
    }
    while todo:
        reached_name = todo.pop()
        component = components[reached_name]
        required = component.get("required", [])
        if reached_name not in told_apart and "type" in required:
            required.remove("type")
        for name, schema in component.get("properties", {}).items():
            if name in required:
                continue
            nothing = [] if _takes_null(schema) else [{"type": "null"}]
            nothing += [{"const": ""}] if name == "id" else []
            if nothing:
                component["properties"][name] = {"anyOf": [schema, *nothing]}
        for name in set(_referred(component)) - reached:
            reached.add(name)
            todo.append(name)


def _takes_null(schema: Document) -> bool:
    return (
        schema.get("type") == "null"
        or None in schema.get("enum", ())
        or any(_takes_null(one) for one in schema.get("anyOf", ()))
    )


def _referred(schema: Any) -> Iterator[str]:
    """Yields the name of each component that a schema refers to."""
    for one in _objects(schema):
        if isinstance(ref := one.get("$ref"), str):
            yield ref.rpartition("/")[2]


def _objects(schema: Any) -> Iterator[Document]:
    """Yields all objects in a schema, including the schema itself."""
    if isinstance(schema, dict):
        yield schema
    for one in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(one, dict | list):
            yield from _objects(one)


def _portable(schema: Any) -> Any:
    """Returns a schema without features that only Python or only OpenAPI understands.

    The end of a pattern, which is backslash and `Z` in Python, becomes `$`. OpenAPI's
    discriminators are removed. They are redundant, because each member has a `type`.
    """
    match schema:
        case dict():
            return {k: _portable(v) for k, v in schema.items() if k != "discriminator"}
        case list():
            return [_portable(each) for each in schema]
        case str() if schema.endswith(r"\Z"):
            return schema.removesuffix(r"\Z") + "$"
        case _:
            return schema
