"""Tests the encoding of log entries as events of the Responses standard."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from jobs.errors import Undecodable
from jobs.log.codec import Event, encode_event
from jobs.log.events import lifecycle
from jobs.log.view import View
from jobs.record import Status
from server.api.frames import (
    encode,
    fingerprint,
    frame,
    lane_suffix,
    response_of,
    sse,
)
from tests.jobs.factories import a_job, ending, opening, said, saying, text_delta

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ENDS = [status for status in Status if status.ended]


def an_answer(status: Status = Status.COMPLETED) -> list[Event]:
    job = a_job()
    events = [*opening(job), *saying(job, 1, 0, ["So", "."]), *said(job, 1, 0, "So.")]
    return [*events, ending(job, status, "So.")]


def a_view(events: list[Event], status: Status) -> View:
    entries = [encode_event(event) for event in events]
    return View(status, "public", 1, 1, "", len(entries), entries)


@pytest.mark.parametrize("status", ENDS)
def test_every_entry_becomes_an_event_that_the_sdk_parses(status: Status) -> None:
    for number, event in enumerate(an_answer(status)):
        ready = frame(number, encode_event(event))
        parsed = EVENT.validate_json(ready.json)

        assert (event["type"], number) == (parsed.type, parsed.sequence_number)
        assert {**event, "sequence_number": number} == json.loads(ready.json)
        assert (number, event["type"]) == (ready.sequence_number, ready.type)


@pytest.mark.parametrize("status", ENDS)
def test_the_last_event_is_recognized(status: Status) -> None:
    events = an_answer(status)
    lasts = [frame(number, encode_event(event)).last for number, event in enumerate(events)]

    assert [False] * (len(events) - 1) + [True] == lasts


numbers = st.integers(0, 2**32)


@given(st.text(st.characters(exclude_categories=["Cs"])), numbers, numbers, numbers)
def test_the_fast_path_for_text_deltas_agrees_with_the_general_one(
    text: str, number: int, output: int, content: int
) -> None:
    event = {**text_delta("msg_1", output, text), "content_index": content}
    # Fields in a map are not a positional entry, so `frame` cannot use its fast path for them.
    long = msgpack.packb([event["type"], {k: v for k, v in event.items() if k != "type"}])
    ready, same = frame(number, encode_event(event)), frame(number, long)
    lane = msgpack.packb("stream_id") + msgpack.packb("a")

    assert (ready.json, ready.event) == (same.json, same.event)
    assert ready.packed_on_lane(b"") == same.packed_on_lane(b"")
    assert ready.packed_on_lane(lane) == same.packed_on_lane(lane)
    assert (ready.type, ready.last) == (same.type, same.last)


@pytest.mark.parametrize("values", [[1, "msg_1", 0, 0, None], [1, "msg_1", 0, "0", "a"]])
def test_a_text_delta_with_unusual_types_takes_the_general_path(values: list[Any]) -> None:
    assert values[4] == json.loads(frame(0, msgpack.packb(values)).json)["delta"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from([None, "a", "A_.-9"]))
def test_the_lane_is_added_to_the_encoded_event(text: str, lane: str | None) -> None:
    ready = frame(7, encode_event(text_delta("msg_1", 0, text)))

    on_lane = json.loads(ready.on_lane(lane_suffix(lane)))

    assert text == on_lane["delta"]
    assert lane == on_lane.get("stream_id")
    assert ("stream_id" in on_lane) == (lane is not None)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_makes_exactly_one_server_sent_event(text: str) -> None:
    data = b"".join(sse(frame(7, encode_event(text_delta("msg_1", 0, text)))))

    name, payload, *end = data.split(b"\n")
    assert b"event: response.output_text.delta" == name
    assert text == json.loads(payload.removeprefix(b"data: "))["delta"]
    assert [b"", b""] == end


hostile_values = st.recursive(
    st.none()
    | st.integers(0, 9)
    | st.binary(max_size=4)
    | st.text(max_size=4)
    | st.floats()
    | st.just(msgpack.Timestamp(1, 1))
    | st.just(msgpack.ExtType(9, b"x")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.integers(0, 9) | st.binary(max_size=2), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.binary(max_size=50)
    | st.tuples(
        st.text(max_size=9), st.dictionaries(st.text(max_size=9), hostile_values, max_size=3)
    ).map(msgpack.packb)
    | st.lists(hostile_values, max_size=6).map(msgpack.packb)
)
def test_hostile_bytes_become_an_event_or_raise_undecodable(entry: bytes) -> None:
    with contextlib.suppress(Undecodable):
        json.loads(frame(0, entry).json)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(b"\x92\xa1x\x81\xa1a" + b"\x91" * 100_000 + b"\xc0", id="nested too deeply"),
        pytest.param(b"\x92\xa1x\x81\x90\xc0", id="a list as a name"),
        pytest.param(b"\x92\xa1x\x81\xafsequence_number\x63", id="a number of its own"),
    ],
)
def test_values_that_json_lacks_are_undecodable(entry: bytes) -> None:
    with pytest.raises(Undecodable):
        frame(0, entry).json  # noqa: B018


def test_the_fingerprint_does_not_depend_on_the_order_of_fields() -> None:
    body = {"input": "x", "metadata": {"a": "1", "b": "2"}}
    turned = {"metadata": {"b": "2", "a": "1"}, "input": "x"}

    assert fingerprint(body) == fingerprint(turned)
    assert " " not in fingerprint(body)


@pytest.mark.parametrize(
    "name", ["client_metadata", "idempotency_key", "stream", "stream_id", "type"]
)
def test_the_fingerprint_ignores_the_envelope(name: str) -> None:
    assert fingerprint({"input": "x"}) == fingerprint({"input": "x", name: "anything"})


def test_different_bodies_have_different_fingerprints() -> None:
    assert fingerprint({"input": "x"}) != fingerprint({"input": "y"})
    assert fingerprint({"input": "x"}) != fingerprint({"input": "x", "temperature": 0})


@pytest.mark.parametrize("status", ENDS)
def test_a_finished_response_equals_its_terminal_event(status: Status) -> None:
    events = an_answer(status)

    assert events[-1]["response"] == response_of(a_view(events, status))


@pytest.mark.parametrize(
    ("cut", "status", "shown", "text"),
    [
        (2, Status.QUEUED, "queued", None),
        (2, Status.RUNNING, "in_progress", None),
        (6, Status.RUNNING, "in_progress", "So"),
        (6, Status.QUEUED, "queued", "So"),
    ],
)
def test_an_unfinished_response_holds_its_output_so_far(
    cut: int, status: Status, shown: str, text: str | None
) -> None:
    response = response_of(a_view(an_answer()[:cut], status))

    assert shown == response["status"]
    assert text == (response["output"][0]["content"][0]["text"] if text else None)
    TypeAdapter(Response).validate_python(response)


def test_server_messages_are_json() -> None:
    job = a_job()

    assert lifecycle(job, "response.created", "queued") == json.loads(
        encode(lifecycle(job, "response.created", "queued"))
    )
