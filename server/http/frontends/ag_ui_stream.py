"""Writes an answer as the events of AG-UI, the protocol of CopilotKit and others.

Specification: https://docs.ag-ui.com/concepts/events. An answer is a run. AG-UI cannot take back
text, so the restart of an answer is a snapshot of the messages without the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.api.problem import Problem

from .answer import REASONING, AnswerFormat, Part

if TYPE_CHECKING:
    from jobs.log.codec import Event

    from .cursor import AnswerCursor

Json = dict[str, Any]


class AgUiEvents(AnswerFormat):
    """The format of a run's events.

    `messages` are the client's messages without the answer. If `keep` is False, because they are
    large or unknown, the restart of an answer ends the stream with an error. If `again` is True,
    the client may have a part of the answer.
    """

    done = b": done\n\n"

    def __init__(
        self,
        since: AnswerCursor,
        thread_id: str,
        run_id: str,
        messages: list[Json],
        *,
        keep: bool,
        again: bool = False,
    ) -> None:
        super().__init__(since)
        self._run = {"threadId": thread_id, "runId": run_id}
        self._messages: list[Json] | None = messages
        self._keep = keep
        self._again = again
        self._open_calls: list[str] = []

    def opened(self, response: Json) -> list[Json]:
        """Begins the run, and removes the part of the answer that the client has."""
        about = {"metadata": {"responseId": response["id"], "model": response["model"]}}
        started = {"type": "RUN_STARTED", **self._run, **about}
        chunks = [started, *self._snapshot()] if self._again else [started]
        if not self._keep:
            self._messages = None
        return chunks

    def part_begun(self, part: Part) -> list[Json]:
        """Begins a message."""
        id_ = {"messageId": part.id}
        if part.kind == REASONING:
            message = {"type": "REASONING_MESSAGE_START", **id_, "role": "reasoning"}
            return [{"type": "REASONING_START", **id_}, message]
        return [{"type": "TEXT_MESSAGE_START", **id_, "role": "assistant"}]

    def part_extended(self, part: Part, delta: str) -> list[Json]:
        """Extends a message. Empty deltas are not allowed."""
        kind = "REASONING" if part.kind == REASONING else "TEXT"
        content = {"messageId": part.id, "delta": delta}
        return [{"type": f"{kind}_MESSAGE_CONTENT", **content}] if delta else []

    def part_ended(self, part: Part) -> list[Json]:
        """Ends a message."""
        id_ = {"messageId": part.id}
        if part.kind == REASONING:
            return [{"type": "REASONING_MESSAGE_END", **id_}, {"type": "REASONING_END", **id_}]
        return [{"type": "TEXT_MESSAGE_END", **id_}]

    def call_begun(self, item: Json) -> list[Json]:
        """Begins a call of the client's tool."""
        call = {"toolCallId": item["call_id"], "toolCallName": item["name"]}
        self._open_calls.append(item["call_id"])
        return [{"type": "TOOL_CALL_START", **call}]

    def call_extended(self, item: Json, delta: str) -> list[Json]:
        """Extends the arguments of a call."""
        return [{"type": "TOOL_CALL_ARGS", "toolCallId": item["call_id"], "delta": delta}]

    def call_ended(self, item: Json) -> list[Json]:
        """Ends a call."""
        self._open_calls.remove(item["call_id"])
        return [{"type": "TOOL_CALL_END", "toolCallId": item["call_id"]}]

    def other_item(self, item: Json) -> list[Json]:
        """Sends any other item as the event of the Responses API."""
        if item["type"] in ("message", "reasoning"):
            return []
        return [{"type": "CUSTOM", "name": "response.output_item.done", "value": item}]

    def annotated(self, event: Event) -> list[Json]:
        """Sends an annotation as the event of the Responses API."""
        return [{"type": "CUSTOM", "name": event["type"], "value": event}]

    def restarted(self) -> list[Json]:
        """Removes the answer so far."""
        ends = [{"type": "TOOL_CALL_END", "toolCallId": id_} for id_ in self._open_calls]
        self._open_calls.clear()
        if self._messages is not None or self._known:
            return [*ends, *self._snapshot()]
        self.broken = True
        message = "The answer restarted. Run the agent again with the same run id."
        return self.failed(Problem(503, "answer_restarted", message))

    def finished(self, response: Json) -> list[Json]:
        """Ends the run."""
        usage = response["usage"]
        used = (
            {
                "model": response["model"],
                "inputTokens": usage["input_tokens"],
                "outputTokens": usage["output_tokens"],
                "totalTokens": usage["total_tokens"],
            }
            if usage
            else None
        )
        about: Json = {"metadata": {"sha256": response["holdline"]["sha256"]}}
        if response["incomplete_details"] is not None:
            about["metadata"]["incompleteReason"] = response["incomplete_details"]["reason"]
        if used is not None:
            about["usage"] = [used]
        if response["status"] == "cancelled":
            about["outcome"] = {"type": "cancelled"}
        return [{"type": "RUN_FINISHED", **self._run, **about}]

    def failed(self, problem: Problem) -> list[Json]:
        """Ends the run with an error."""
        return [{"type": "RUN_ERROR", "message": problem.message, "code": problem.standard_code}]

    def _snapshot(self) -> list[Json]:
        return [{"type": "MESSAGES_SNAPSHOT", "messages": self._messages or []}]
