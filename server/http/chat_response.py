"""Translates a response into a chat completion, and its events into chat chunks.

A chat stream cannot retract text. So if an answer restarts after part of it was sent, the stream
ends with an error that names the response. The client can still follow the response by its id. A
restart before the first part is invisible in the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs.log.events import RESTARTED, output_text
from server.api.failures import problem_of
from server.api.frames import DONE, encode
from server.api.obfuscation import padded_chunk
from server.api.problem import Problem, restarting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.log.codec import Event
    from server.api.frames import Frame

Json = dict[str, Any]

_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}


def completion_id(response_id: str) -> str:
    """Returns the id of a chat completion: the response's id with another prefix."""
    return f"chatcmpl-{response_id.removeprefix('resp_')}"


def failure(response: Json) -> Problem | None:
    """Returns the error for a failed or cancelled response, or None for other responses."""
    if response["status"] == "cancelled":
        return Problem(409, "cancelled", "The response was cancelled.", should_retry=False)
    return problem_of(response)


def completion(response: Json) -> Json:
    """Translates an ended response into a chat completion. Call `failure` first."""
    parts = [
        part for item in response["output"] if item["type"] == "message" for part in item["content"]
    ]
    refusals = [part["refusal"] for part in parts if part["type"] == "refusal"]
    texts = [part for part in parts if part["type"] == "output_text"]
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    message: Json = {
        "role": "assistant",
        "content": output_text(response["output"]) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) if refusals else None,
        "annotations": [
            _annotation(note) for part in texts for note in part.get("annotations") or ()
        ],
    }
    if calls:
        message["tool_calls"] = [_call(call) for call in calls]
    if thought := _thoughts(response["output"]):
        message["reasoning_content"] = thought
    logprobs = [one for part in texts for one in part.get("logprobs") or ()]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
        "finish_reason": _finish_reason(response),
    }
    return {
        **_head(response, "chat.completion"),
        "choices": [choice],
        "usage": _usage(response["usage"]),
    }


class Chunks:
    """The chunk format of a chat stream. `usage` adds a last chunk with token counts.

    If `obfuscated` is True, chunks with a part of the answer are padded.
    """

    headers: Mapping[str, str] = {}
    done = DONE

    def __init__(self, *, usage: bool, obfuscated: bool = False) -> None:
        self._usage = usage
        self._obfuscated = obfuscated
        self._head: Json = {}
        self._said = False
        self._finished = False
        self._calls: dict[int, int] = {}
        self._argued: set[int] = set()
        self._extras: dict[int, Json] = {}  # provider data sent at the start of each call
        self.failure: Problem | None = None
        self.broken = False
        self.ended = False

    @property
    def begun(self) -> bool:
        """True once any event has carried part of the answer or marked its end."""
        return self._said or self._finished

    def events(self, frames: list[Frame]) -> list[bytes]:
        """Translates a batch of events into chunks.

        As long as no part of the answer has been sent, the method omits the events before a restart
        in the batch.
        """
        if not self._said:
            last = max((n for n, f in enumerate(frames) if f.type == RESTARTED), default=0)
            frames = [f for n, f in enumerate(frames) if n >= last or "response" in f.event]
        told: list[bytes] = []
        for frame in frames:
            if self.broken:
                break
            told += map(_data, self._chunks(frame.event))
        return told

    def problem(self, problem: Problem) -> bytes:
        """Returns the error chunk that ends a stream early; the official SDKs raise it."""
        return _data({"error": problem.error})

    def cut(self, response_id: str) -> bytes:
        """Returns the `server_restarting` error, which ends a stream before its response."""
        problem = restarting(
            response_id, "A chat stream cannot be resumed, but the response continues. "
        )
        return self.problem(problem)

    @property
    def _elsewhere(self) -> str:
        id_ = self._head.get("id", "").replace("chatcmpl-", "resp_")
        where = f"with GET /v1/responses/{id_}" if id_ else "by the id in the X-Response-Id header"
        return f"The response continues. Retrieve it {where}."

    def _chunks(self, event: Event) -> list[Json]:
        match event["type"]:
            case "response.output_text.delta":
                return [self._delta({"content": event["delta"]}, event.get("logprobs"))]
            case "response.refusal.delta":
                return [self._delta({"refusal": event["delta"]})]
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                return [self._delta({"reasoning_content": event["delta"]})]
            case "response.output_item.added" if event["item"]["type"] == "function_call":
                return [self._call(event["output_index"], event["item"])]
            case "response.function_call_arguments.delta":
                return [self._arguments(event["output_index"], event["delta"])]
            case "response.function_call_arguments.done":
                whole = event["output_index"] in self._argued or not event["arguments"]
                return [] if whole else [self._arguments(event["output_index"], event["arguments"])]
            case "response.output_item.done" if event["item"].get("extra_content"):
                return self._extra(event["output_index"], event["item"]["extra_content"])
            case kind if kind == RESTARTED:
                return self._restarted()
            case kind if "response" in event:
                return self._lifecycle(kind, event["response"])
            case _:
                return []

    def _lifecycle(self, kind: str, response: Json) -> list[Json]:
        chunks = []
        if not self._head:
            self._head = _head(response, "chat.completion.chunk")
            chunks.append(self._chunk({"role": "assistant", "content": "", "refusal": None}))
        if kind in ("response.created", "response.queued", "response.in_progress"):
            return chunks
        if problem := failure(response):
            self.broken = self.ended = True
            self.failure = problem
            return [*chunks, {"error": problem.error}]
        self._finished = True
        chunks.append(self._chunk({}, finish=_finish_reason(response)))
        if self._usage:
            chunks.append({**self._head, "choices": [], "usage": _usage(response["usage"])})
        return chunks

    def _restarted(self) -> list[Json]:
        self._calls.clear()
        self._argued.clear()
        self._extras.clear()
        if not self._said:
            return []
        self.broken = True
        problem = Problem(
            503,
            "answer_restarted",
            "The answer restarted after part of it was sent, and a chat stream cannot retract "
            f"text. {self._elsewhere}",
        )
        return [{"error": problem.error}]

    def _call(self, index: int, item: Json) -> Json:
        number = self._calls[index] = len(self._calls)
        self._extras[index] = item.get("extra_content") or {}
        begun = {**_call(item), "function": {"name": item["name"], "arguments": ""}}
        return self._delta({"tool_calls": [{"index": number, **begun}]})

    def _extra(self, index: int, extra: Json) -> list[Json]:
        """Returns a chunk with the provider data that arrived after the start of a call, if any."""
        sent = self._extras.get(index, {})
        rest = {name: value for name, value in extra.items() if name not in sent}
        if index not in self._calls or not rest:
            return []
        piece = {"index": self._calls[index], "extra_content": rest}
        return [self._delta({"tool_calls": [piece]})]

    def _arguments(self, index: int, text: str) -> Json:
        self._argued.add(index)
        piece = {"index": self._calls.get(index, 0), "function": {"arguments": text}}
        return self._delta({"tool_calls": [piece]})

    def _delta(self, delta: Json, logprobs: list[Json] | None = None) -> Json:
        self._said = True
        chunk = self._chunk(delta, logprobs=logprobs)
        return padded_chunk(chunk, encode(chunk)) if self._obfuscated else chunk

    def _chunk(
        self, delta: Json, *, finish: str | None = None, logprobs: list[Json] | None = None
    ) -> Json:
        choice = {
            "index": 0,
            "delta": delta,
            "logprobs": {"content": logprobs, "refusal": None} if logprobs else None,
            "finish_reason": finish,
        }
        chunk = {**self._head, "choices": [choice]}
        return {**chunk, "usage": None} if self._usage else chunk


def _data(chunk: Json) -> bytes:
    return b"data: %b\n\n" % encode(chunk)


def _head(response: Json, kind: str) -> Json:
    return {
        "id": completion_id(response["id"]),
        "object": kind,
        "created": response["created_at"],
        "model": response["model"],
        "service_tier": response["service_tier"],
    }


def _finish_reason(response: Json) -> str:
    if response["status"] == "incomplete":
        return _REASONS.get(response["incomplete_details"]["reason"], "length")
    called = any(item["type"] == "function_call" for item in response["output"])
    return "tool_calls" if called else "stop"


def _call(item: Json) -> Json:
    function = {"name": item["name"], "arguments": item["arguments"]}
    # The provider expects `extra_content` back in later requests.
    extra = item.get("extra_content")
    own = {"extra_content": extra} if extra else {}
    return {"id": item["call_id"], "type": "function", "function": function, **own}


def _thoughts(output: list[Json]) -> str:
    return "".join(
        part["text"]
        for item in output
        if item["type"] == "reasoning"
        for part in [*(item.get("summary") or ()), *(item.get("content") or ())]
    )


def _annotation(note: Json) -> Json:
    kind = note["type"]
    return {"type": kind, kind: {name: value for name, value in note.items() if name != "type"}}


def _usage(usage: Json | None) -> Json | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["total_tokens"],
        "prompt_tokens_details": usage.get("input_tokens_details"),
        "completion_tokens_details": usage.get("output_tokens_details"),
    }
