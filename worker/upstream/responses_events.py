"""One payload of an upstream's Responses stream -> what it says.

Items and their parts pass as they are; their ids and indexes become ours in `translator`. What the
upstream says of its own response is not passed on: its words for an error may hold anything. Its
last event says how it ended, and only then can an answer be whole.
"""

from __future__ import annotations

from typing import Any, Final

from .chat_chunks import (
    Delta,
    ErrorInStream,
    Malformed,
    Stopped,
    UpstreamEvent,
    Usage,
    encodable,
    parse,
)

# What a response ended as incomplete for -> a provider's reason for stopping.
_INCOMPLETE: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
# The standard's code of an error -> a row of `outcome.CAUSES`; any other is worth another attempt.
_CAUSES: Final = {
    "rate_limit_exceeded": "upstream_busy",
    "invalid_prompt": "upstream_rejected",
    "image_parse_error": "upstream_rejected",
    "invalid_image": "upstream_rejected",
    "unsupported_image_media_type": "upstream_rejected",
    "context_length_exceeded": "upstream_rejected",
    "model_not_found": "upstream_model_not_found",
}
_LARGEST_INTEGER: Final = 2**63


class Failed(ErrorInStream):
    """The upstream said that it failed, and why. `cause` is a row of `outcome.CAUSES`."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ResponsesEventReader:
    """Reads the payloads of one stream, in order."""

    def __init__(self) -> None:
        # What only begins says nothing yet: until there is something, another model may answer.
        self._begun: list[Delta] | None = []

    def fast_text(self, _payload: bytes) -> str | None:
        """As of `ChatChunkReader`: here no text comes without its place."""
        return None

    def read(self, payload: bytes) -> list[Delta]:
        """The pieces of a payload.

        Raises: Malformed, ErrorInStream.
        """
        event = parse(payload)
        if not isinstance(event, dict) or not isinstance(kind := event.get("type"), str):
            raise Malformed("not an event")
        match kind:
            case "response.completed":
                return [*self._flushed(), *_usage(event), Stopped("stop")]
            case "response.incomplete":
                reason = _at(event, "response", "incomplete_details", "reason")
                stopped = Stopped(_INCOMPLETE.get(reason, "unknown"))
                return [*self._flushed(), *_usage(event), stopped]
            case "response.failed":
                raise Failed(_cause(_at(event, "response", "error", "code")))
            case "error":
                raise Failed(_cause(event.get("code") or _at(event, "error", "code")))
            case _ if kind.startswith("response.") and isinstance(event.get("output_index"), int):
                passed = UpstreamEvent(_clean(event))
                if self._begun is not None and kind.endswith(".added"):
                    self._begun.append(passed)
                    return []
                return [*self._flushed(), passed]
            case _:
                return []  # of its own response, a heartbeat, or not known

    def _flushed(self) -> list[Delta]:
        begun, self._begun = self._begun, None
        return begun or []


def _usage(event: dict[str, Any]) -> list[Delta]:
    counts = _at(event, "response", "usage")
    return [Usage(counts)] if isinstance(counts, dict) else []


def _cause(code: Any) -> str:
    return _CAUSES.get(code, "upstream_error") if isinstance(code, str) else "upstream_error"


def _at(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _clean(value: Any) -> Any:
    """The value as a log can hold it: no half of a character, no number beyond 64 bits."""
    match value:
        case str():
            return encodable(value)
        case dict():
            return {encodable(name): _clean(inner) for name, inner in value.items()}
        case list():
            return [_clean(inner) for inner in value]
        case bool():
            return value
        case int() if not -_LARGEST_INTEGER <= value < _LARGEST_INTEGER:
            return str(value)
        case _:
            return value
