"""The standard's events and the response object; what a log adds up to.

An event here is what a log entry holds: the standard's fields without `sequence_number`.
`Transcript` folds events back into output items. Server, worker and rescue use the same fold, so
what a client is told of a response never depends on who tells it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from .record import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .codec import Event
    from .record import Job

Item = dict[str, Any]

_TERMINAL: Final = {
    Status.COMPLETED: "response.completed",
    Status.INCOMPLETE: "response.incomplete",
    Status.FAILED: "response.failed",
    # The standard has a status for cancelled and no event. Its clients end on this one.
    Status.CANCELLED: "response.incomplete",
}
TERMINAL_TYPES: Final = frozenset(_TERMINAL.values())
RESTARTED: Final = "holdline:restarted"


def snapshot(
    job: Job,
    status: str,
    *,
    output: list[Item] | None = None,
    usage: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    incomplete: str | None = None,
    completed_at: int | None = None,
) -> dict[str, Any]:
    """The response object, with every field that the standard requires."""
    params = job.params
    return {
        "id": job.id,
        "object": "response",
        "created_at": job.created_at,
        "completed_at": completed_at,
        "status": status,
        "error": error,
        "incomplete_details": None if incomplete is None else {"reason": incomplete},
        "model": params["model"],
        "previous_response_id": params.get("previous_response_id"),
        "instructions": params.get("instructions"),
        "output": [] if output is None else output,
        "tools": params.get("tools") or [],
        "tool_choice": params.get("tool_choice") or "auto",
        "parallel_tool_calls": _or(params.get("parallel_tool_calls"), True),
        "text": params.get("text") or {"format": {"type": "text"}},
        "reasoning": params.get("reasoning"),
        "temperature": _or(params.get("temperature"), 1.0),
        "top_p": _or(params.get("top_p"), 1.0),
        "presence_penalty": _or(params.get("presence_penalty"), 0.0),
        "frequency_penalty": _or(params.get("frequency_penalty"), 0.0),
        "top_logprobs": _or(params.get("top_logprobs"), 0),
        "max_output_tokens": params.get("max_output_tokens"),
        "max_tool_calls": params.get("max_tool_calls"),
        "truncation": params.get("truncation") or "disabled",
        "store": _or(params.get("store"), True),
        "background": _or(params.get("background"), False),
        "service_tier": params.get("service_tier") or "default",
        "metadata": params.get("metadata") or {},
        "user": params.get("user"),
        "safety_identifier": params.get("safety_identifier"),
        "prompt_cache_key": params.get("prompt_cache_key"),
        "usage": usage,
    }


def lifecycle(job: Job, kind: str, status: str) -> Event:
    """`response.created`, `response.queued` or `response.in_progress`."""
    return {"type": kind, "response": snapshot(job, status)}


def restarted(job: Job, attempt: int, reason: str) -> Event:
    """Announces that what the attempts before have said does not count."""
    return {"type": RESTARTED, "response_id": job.id, "attempt": attempt, "reason": reason}


def terminal(
    job: Job,
    status: Status,
    *,
    output: list[Item],
    attempts: int,
    timing: dict[str, int],
    completed_at: int,
    usage: dict[str, Any] | None = None,
    error: dict[str, Any] | None = None,
    incomplete: str | None = None,
    model: str | None = None,
) -> Event:
    """The event that ends a log, with the proof of its text and the receipt of its time.

    `timing` is in ms. Only a completed response has a `completed_at`. `model` is the one that
    answered; None if none did.
    """
    response = snapshot(
        job,
        status,
        output=output,
        usage=usage,
        error=error,
        incomplete=incomplete,
        completed_at=completed_at if status is Status.COMPLETED else None,
    )
    text = output_text(output).encode()
    response["holdline"] = {
        "attempts": attempts,
        "sha256": hashlib.sha256(text).hexdigest(),
        "bytes": len(text),
        "timing": timing,
    }
    if model is not None:
        response["holdline"]["model"] = model
    return {"type": _TERMINAL[status], "response": response}


def output_text(output: list[Item]) -> str:
    """All the text of a response's messages, as the official SDKs join it."""
    return "".join(
        part["text"]
        for item in output
        if item.get("type") == "message"
        for part in item.get("content", [])
        if part.get("type") == "output_text"
    )


class Transcript:
    """The output items that the events so far add up to.

    `output` holds the items of the last attempt alone. `next_index` is the first output index that
    no attempt has used: an index is never used twice, because the official accumulators refuse it.
    """

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._items: dict[int, Item] = {}
        self._open: set[int] = set()
        self.next_index = 0
        self.end: Event | None = None
        self.last: dict[str, Any] | None = None
        for event in events:
            self.add(event)

    @property
    def output(self) -> list[Item]:
        """The items of the last attempt, in the order of their indexes."""
        return [self._items[index] for index in sorted(self._items)]

    def add(self, event: Event) -> None:
        """Takes the next event of the log."""
        match event["type"]:
            case "response.output_item.added" | "response.output_item.done" as kind:
                index = event["output_index"]
                self._items[index] = _copy(event["item"])
                self.next_index = max(self.next_index, index + 1)
                (self._open.add if kind.endswith("added") else self._open.discard)(index)
            case "response.content_part.added":
                self._items[event["output_index"]]["content"].append(dict(event["part"]))
            case "response.output_text.delta":
                part = self._items[event["output_index"]]["content"][event["content_index"]]
                part["text"] += event["delta"]
            case "holdline:restarted":
                self._items.clear()
                self._open.clear()
            case kind if "response" in event:
                self.last = event["response"]
                if kind in TERMINAL_TYPES:
                    self.end = event
            case _:
                pass  # what a done event says, the deltas have said

    def close(self) -> list[Event]:
        """The events that end the items that were left open, as incomplete.

        Append them before a restart or an end: an item that was added and never done makes the
        official accumulators refuse the whole response.
        """
        events: list[Event] = []
        for index in sorted(self._open):
            item = _copy(self._items[index])
            item["status"] = "incomplete"
            for content_index, part in enumerate(item.get("content", [])):
                events.extend(part_done(item["id"], index, content_index, part))
            events.append(
                {"type": "response.output_item.done", "output_index": index, "item": item}
            )
        for event in events:
            self.add(event)
        return events


def part_done(item_id: str, index: int, content_index: int, part: dict[str, Any]) -> list[Event]:
    """The two events that end a part of text."""
    place = {"item_id": item_id, "output_index": index, "content_index": content_index}
    return [
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    ]


def message_added(item_id: str, index: int) -> list[Event]:
    """The two events that begin a message of one part of text."""
    item = {
        "id": item_id,
        "type": "message",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    place = {"item_id": item_id, "output_index": index, "content_index": 0}
    return [
        {"type": "response.output_item.added", "output_index": index, "item": item},
        {"type": "response.content_part.added", **place, "part": text_part("")},
    ]


def text_delta(item_id: str, index: int, delta: str) -> Event:
    """One more piece of text."""
    return {
        "type": "response.output_text.delta",
        "item_id": item_id,
        "output_index": index,
        "content_index": 0,
        "delta": delta,
        "logprobs": [],
    }


def message_done(item_id: str, index: int, text: str, status: str) -> list[Event]:
    """The three events that end a message; `status` is `completed` or `incomplete`."""
    part = text_part(text)
    item = {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [part],
    }
    return [
        *part_done(item_id, index, 0, part),
        {"type": "response.output_item.done", "output_index": index, "item": item},
    ]


def text_part(text: str) -> dict[str, Any]:
    """A part of output text."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _copy(item: Item) -> Item:
    return (
        {**item, "content": [dict(part) for part in item["content"]]}
        if "content" in item
        else dict(item)
    )


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value
