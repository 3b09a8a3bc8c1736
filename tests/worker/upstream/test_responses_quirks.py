"""Tests that Responses streams with missing events produce the same items as complete ones."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.log.codec import Event
from jobs.log.response_state import ResponseState
from tests.worker.recording_sink import RecordingSink
from tests.worker.toolboxes import toolbox_of
from worker.output import Output
from worker.upstream.deltas import ErrorInStream, Malformed, Stopped, UpstreamEvent, Usage
from worker.upstream.responses.events import ResponsesEventReader

FUNCTIONS = frozenset({"get", "say"})
# Maps each part type to its text field, the prefix of its event types, and its group.
PARTS = {
    "output_text": ("text", "response.output_text", "content"),
    "refusal": ("refusal", "response.refusal", "content"),
    "summary_text": ("text", "response.reasoning_summary_text", "summary"),
    "reasoning_text": ("text", "response.reasoning_text", "content"),
}
STEMS = {"content": "response.content_part", "summary": "response.reasoning_summary_part"}


@dataclass(frozen=True)
class Item:
    """A model's output item: its parts or its function call."""

    type: str
    parts: tuple[tuple[str, str], ...] = ()
    name: str = ""
    arguments: str = ""


def shown(item: dict[str, Any]) -> Item:
    if item["type"] == "function_call":
        return Item("function_call", (), item["name"], item["arguments"])
    parts = [*item.get("summary", ()), *item.get("content", ())]
    told = tuple((part["type"], part[PARTS[part["type"]][0]]) for part in parts)
    return Item(item["type"], told)


def read(events: list[Any]) -> tuple[list[Item], list[Event]]:
    """Returns a stream's items and the events written for them. Raises Malformed."""
    reader, log = ResponsesEventReader(), RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=100_000, toolbox=toolbox_of(*FUNCTIONS))
    stopped = None
    for event in events:
        for piece in reader.read(json.dumps(event).encode()):
            if isinstance(piece, UpstreamEvent):
                output.take(piece)
            elif isinstance(piece, Stopped):
                stopped = piece.reason
    reader.end()
    assert "stop" == stopped
    items = output.end(completed=True)
    assert items == ResponseState(log.events).output
    assert ["completed"] * len(items) == [item["status"] for item in items]
    return [shown(item) for item in items], log.events


def told(events: list[Event]) -> list[str]:
    """Returns the text of each item, joined from its deltas."""
    texts: dict[int, str] = {}
    for event in events:
        if event["type"] == "response.output_item.added":
            texts[event["output_index"]] = ""
        elif event["type"].endswith(".delta"):
            texts[event["output_index"]] += event["delta"]
    return [text for _, text in sorted(texts.items())]


@st.composite
def items(draw: st.DrawFn) -> Item:
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
    kind = draw(st.sampled_from(["message", "message", "reasoning", "function_call"]))
    if kind == "function_call":
        name = draw(st.sampled_from(sorted(FUNCTIONS)))
        return Item(kind, (), name, draw(st.sampled_from(["{}", '{"a": "b"}', '{"c":1}'])))
    if kind == "message":
        types = st.sampled_from(["output_text", "output_text", "refusal"])
    else:
        types = st.just(draw(st.sampled_from(["summary_text", "reasoning_text"])))
    return Item(kind, tuple((draw(types), draw(text)) for _ in range(draw(st.integers(1, 2)))))


def cut(draw: st.DrawFn, text: str) -> list[str]:
    units = text.encode("utf-16-le")
    cuts = sorted(draw(st.sets(st.integers(0, len(units) // 2), max_size=3)))
    bounds = [0, *cuts, len(units) // 2]
    return [
        units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass")
        for a, b in itertools.pairwise(bounds)
    ]


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[Item], list[Any]]:
    said = draw(st.lists(items(), min_size=1, max_size=3))
    ids = draw(st.sampled_from(["stable", "fresh", "none"]))
    # All items may have the same index.
    shared = ids == "stable" and draw(st.booleans())
    listed = draw(st.booleans())
    empty: list[Any] | None = draw(st.sampled_from([[], None]))
    # Open Responses and vLLM use their own event names for reasoning.
    reasoning = draw(st.sampled_from(["response.reasoning_text", "response.reasoning"]))
    reasoning_part = draw(st.sampled_from([STEMS["content"], "response.reasoning_part"]))
    events: list[Any] = [{"type": "response.created", "response": {"id": "r"}}]
    output = []
    fresh = itertools.count()
    for number, item in enumerate(said):
        index = 0 if shared else number

        def place(number: int = number, index: int = index, **more: Any) -> dict[str, Any]:
            where: dict[str, Any] = {"output_index": index, **more}
            if ids != "none":
                where["item_id"] = f"i_{number if ids == 'stable' else next(fresh)}"
            return where

        def named(
            item: Item = item, number: int = number, *, whole: bool, null: bool = False
        ) -> dict[str, Any]:
            own: dict[str, Any] = {"type": item.type, "status": "in_progress"}
            if ids != "none":
                own["id"] = f"i_{number if ids == 'stable' else next(fresh)}"
            if item.type == "function_call":
                own |= {"name": item.name, "call_id": f"call_{number}"}
                if whole and not null:
                    own["arguments"] = item.arguments
                elif draw(st.booleans()):
                    own["arguments"] = "" if empty == [] else None
                return own
            for group in {PARTS[kind][2] for kind, _ in item.parts}:
                parts = [{"type": kind, PARTS[kind][0]: text} for kind, text in item.parts]
                own[group] = parts if whole and not null else empty
            if item.type == "message" and draw(st.booleans()):
                own["role"] = "assistant"
                del own["type"]
            return own

        steps = draw(
            st.fixed_dictionaries(
                {
                    name: st.booleans()
                    for name in (
                        "added",
                        "part",
                        "deltas",
                        "done",
                        "part_done",
                        "item_done",
                        "null",
                    )
                }
            )
        )
        if item.type == "reasoning":
            # A reasoning item can be empty.
            steps["null"] = False
        complete = steps["item_done"] and not steps["null"]
        if not (complete or steps["deltas"] or steps["done"] or listed):
            steps["item_done"], steps["null"] = True, False
        if ids != "stable" or shared or item.type == "function_call":
            # If ids change or indexes are shared, deltas can be assigned only to an item that was
            # announced. Function calls must always be announced.
            steps["added"] = True
        if steps["added"]:
            events.append(
                {
                    "type": "response.output_item.added",
                    "output_index": index,
                    "item": named(whole=False),
                }
            )
        if item.type == "function_call":
            stem = "response.function_call_arguments"
            if steps["deltas"]:
                events += [
                    {"type": f"{stem}.delta", **place(), "delta": piece}
                    for piece in cut(draw, item.arguments)
                ]
            if steps["done"]:
                events.append({"type": f"{stem}.done", **place(), "arguments": item.arguments})
        for at, (kind, text) in enumerate(item.parts):
            field, stem, group = PARTS[kind]
            part_stem = STEMS[group]
            if kind == "reasoning_text":
                stem, part_stem = reasoning, reasoning_part
            where = {f"{group}_index": at}
            if steps["part"]:
                part = {"type": kind, field: ""}
                events.append({"type": f"{part_stem}.added", **place(**where), "part": part})
            if steps["deltas"]:
                events += [
                    {"type": f"{stem}.delta", **place(**where), "delta": piece}
                    for piece in cut(draw, text)
                ]
            if steps["done"]:
                events.append({"type": f"{stem}.done", **place(**where), field: text})
            if steps["part_done"]:
                part = {"type": kind, field: text}
                events.append({"type": f"{part_stem}.done", **place(**where), "part": part})
        if steps["item_done"]:
            item_ = named(whole=True, null=steps["null"]) | {"status": "completed"}
            events.append(
                {"type": "response.output_item.done", "output_index": index, "item": item_}
            )
        output.append(named(whole=True))
    response: dict[str, Any] = {"status": "completed"}
    if listed:
        response["output"] = output
    if draw(st.booleans()):
        events.append({"type": "response.completed", "response": response})
    else:
        events.append({"type": "response.completed", **response})
    return said, events


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(streams())
def test_streams_with_missing_events_yield_the_items_of_the_complete_stream(
    case: tuple[list[Item], list[Any]],
) -> None:
    said, events = case
    found, log = read(events)
    # An item that appears only in the final event is placed after the items streamed before it.
    assert sorted(said, key=repr) == sorted(found, key=repr)
    assert told(log) == [
        item.arguments or "".join(text for _, text in item.parts) for item in found
    ]


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", **fields}


def done(**item: Any) -> dict[str, Any]:
    return event("output_item.done", output_index=0, item=item)


TEXT = [{"type": "output_text", "text": "Hello"}]
COMPLETED = event("completed", response={"status": "completed"})
CALL = {"type": "function_call", "call_id": "c"}
AT = {"item_id": "i", "output_index": 0}


@pytest.mark.parametrize(
    ("events", "items"),
    [
        # The text of a finished item overrides its deltas.
        (
            [
                event("output_text.delta", **AT, content_index=0, delta="Hallo"),
                done(type="message", id="i", content=TEXT),
            ],
            [Item("message", (("output_text", "Hello"),))],
        ),
        # A function name that arrives only with the finished item.
        (
            [
                event("function_call_arguments.delta", **AT, delta='{"a"'),
                event("function_call_arguments.delta", **AT, delta=":1}"),
                done(**CALL, id="i", name="get", arguments='{"a":1}'),
            ],
            [Item("function_call", (), "get", '{"a":1}')],
        ),
        (
            [event("function_call_arguments.done", **AT, name="get", arguments="{}")],
            [Item("function_call", (), "get", "{}")],
        ),
        (
            [done(**CALL, id="i", name="get", arguments={"a": 1})],
            [Item("function_call", (), "get", '{"a": 1}')],
        ),
        # Reasoning events of Open Responses and of vLLM.
        (
            [
                event("reasoning_part.added", **AT, part={"type": "reasoning_text", "text": ""}),
                event("reasoning.delta", **AT, delta="Hm"),
                event("reasoning.done", **AT, text="Hm."),
                event("reasoning_part.done", **AT, part={"type": "reasoning_text", "text": "Hm."}),
            ],
            [Item("reasoning", (("reasoning_text", "Hm."),))],
        ),
        ([done(role="assistant", content=TEXT)], [Item("message", (("output_text", "Hello"),))]),
        # Events with neither an index nor an id.
        (
            [
                event("output_item.added", item={"type": "message"}),
                event("output_text.delta", item_id=None, delta="Hello"),
            ],
            [Item("message", (("output_text", "Hello"),))],
        ),
    ],
)
def test_items_are_assembled_from_their_events(events: list[Any], items: list[Item]) -> None:
    found, _ = read([*events, COMPLETED])
    assert items == found


def test_an_unstreamed_response_to_a_streaming_request_is_accepted() -> None:
    output = [{"type": "message", "id": "i", "content": TEXT}, {**CALL, "name": "get"}]
    found, _ = read([{"object": "response", "status": "completed", "output": output}])
    assert [
        Item("message", (("output_text", "Hello"),)),
        Item("function_call", (), "get", "{}"),
    ] == found


def test_response_fields_at_the_top_level_are_accepted() -> None:
    usage = {"input_tokens": 3, "output_tokens": 2}
    last = event("completed", output=[{"role": "assistant", "content": TEXT}], usage=usage)
    found, _ = read([last])
    assert [Item("message", (("output_text", "Hello"),))] == found
    assert Usage(usage) in ResponsesEventReader().read(json.dumps(last).encode())


def test_a_response_with_an_error_is_not_completed() -> None:
    with pytest.raises(ErrorInStream):
        read([event("completed", response={"status": "completed", "error": {"code": "x"}})])


@pytest.mark.parametrize(
    "events",
    [
        [COMPLETED],
        [event("completed", response={"output": []})],
        [event("completed", response={"output": [7]})],
        [event("function_call_arguments.delta", **AT, delta="{}"), COMPLETED],
        [done(**CALL, id="i", arguments="{}"), COMPLETED],
        [event("output_text.delta", **AT, delta=7), COMPLETED],
        [
            done(type="message", id="i", content=TEXT),
            event("output_text.delta", **AT, content_index=0, delta="!"),
            COMPLETED,
        ],
        [{"choices": [{"delta": {"content": "Hello"}, "finish_reason": "stop"}]}],
    ],
)
def test_events_without_an_item_are_malformed(events: list[Any]) -> None:
    with pytest.raises(Malformed):
        read(events)
