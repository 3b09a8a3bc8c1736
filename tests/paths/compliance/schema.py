"""The standard's own schema: the types that `openresponses-types` generates from its OpenAPI.

`check_event` and `check_response` report all violations. The standard's schema does not contain
Holdline's own event types, whose names have the prefix that the standard requires for extensions.
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
# OpenAI added these events after the standard was written. The official SDK has types for them.
LATER: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)


def check_response(response: Any) -> dict[str, Any]:
    """Validates a response object against the standard's schema and returns it."""
    assert isinstance(response, dict)
    standard.ResponseResource.model_validate(_with_null_schema(response))
    return response


def check_compaction(compaction: Any) -> dict[str, Any]:
    """Validates the result of `POST /responses/compact` against the schema and returns it."""
    assert isinstance(compaction, dict)
    standard.CompactResource.model_validate(compaction)
    return compaction


def check_event(event: dict[str, Any]) -> None:
    """Validates an event against the standard's schema or the official SDK's type."""
    kind = event["type"]
    if kind.startswith(OURS):
        return
    if "response" in event:
        event = {**event, "response": _with_null_schema(event["response"])}
    if kind in EVENTS:
        EVENTS[kind].model_validate(event)
    else:
        LATER.validate_python(event)


def _with_null_schema(response: dict[str, Any]) -> dict[str, Any]:
    """Returns the response with a null JSON schema in its text format.

    The standard's schema requires null there. The standard's text does not, and servers send no
    null.
    """
    form = response["text"].get("format", {})
    if form.get("type") != "json_schema":
        return response
    return {**response, "text": {**response["text"], "format": {**form, "schema": None}}}
