"""The standard's own schema: the types that `openresponses-types` makes of its OpenAPI document.

`check_event` and `check_response` fail with everything that is wrong. A type of ours has the prefix
that the standard demands of extensions, and no schema there.
"""

from __future__ import annotations

from typing import Any, Final

import openresponses_types as standard
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

VERSION: Final = standard.__spec_version__
OURS: Final = "holdline:"


def _type_of(model: type[BaseModel]) -> str:
    schema = model.model_json_schema()
    name = schema["properties"]["type"]["$ref"].rpartition("/")[2]
    (kind,) = schema["$defs"][name]["enum"]
    return str(kind)


EVENTS: Final[dict[str, type[BaseModel]]] = {
    _type_of(model): model
    for name, model in vars(standard).items()
    if name.endswith("StreamingEvent")
}
SOCKET_ERROR: Final = standard.WebSocketErrorEvent
# Events that OpenAI added after the standard was written; the official SDK has a type for each.
LATER: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)


def check_response(response: Any) -> dict[str, Any]:
    """The response object, which the standard's schema accepts."""
    assert isinstance(response, dict)
    standard.ResponseResource.model_validate(_as_the_schema_wants(response))
    return response


def check_event(event: dict[str, Any]) -> None:
    """Fails unless the event is as the standard, or the official SDK, describes its type."""
    kind = event["type"]
    if kind.startswith(OURS):
        return
    if "response" in event:
        event = {**event, "response": _as_the_schema_wants(event["response"])}
    if kind in EVENTS:
        EVENTS[kind].model_validate(event)
    else:
        LATER.validate_python(event)


def _as_the_schema_wants(response: dict[str, Any]) -> dict[str, Any]:
    """The standard's schema says that the JSON schema which a response shows back is null. So does
    no server, and its text says otherwise.
    """
    form = response["text"].get("format", {})
    if form.get("type") != "json_schema":
        return response
    return {**response, "text": {**response["text"], "format": {**form, "schema": None}}}
