"""Tests the encoding of jobs and events in Redis, and the decoding of arbitrary bytes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Undecodable
from jobs.log.codec import (
    Deleted,
    Event,
    Grown,
    Waits,
    decode_event,
    decode_job,
    decode_notification,
    encode_event,
    encode_job,
    encode_text_delta,
)
from jobs.record import Job
from tests.jobs.factories import message_added, message_done, text_delta

ROOT = Path(__file__).parents[3]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)
fields = st.dictionaries(text.filter(lambda name: name != "type"), json, max_size=5)
kinds = st.sampled_from(
    [
        "response.created",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.added",
        "response.output_item.done",
        "holdline:restarted",
    ]
)
hostile = st.binary(max_size=200) | st.recursive(
    json
    | st.binary(max_size=8)
    | st.just(msgpack.Timestamp(1, 1))
    | st.just(msgpack.ExtType(9, b"x")),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(text | st.integers(0, 9), inner),
    max_leaves=12,
).map(lambda value: bytes(msgpack.packb(value)))
indexes = st.integers(0, 2**31)


@given(kinds | text, fields)
def test_any_event_is_decoded_unchanged(kind: str, rest: dict[str, Any]) -> None:
    event = {"type": kind, **rest}

    assert event == decode_event(encode_event(event))


@given(text, indexes, text)
def test_events_of_a_streamed_text_are_decoded_unchanged(
    item_id: str, index: int, piece: str
) -> None:
    events: list[Event] = [
        *message_added(item_id, index),
        text_delta(item_id, index, piece),
        *message_done(item_id, index, piece, "completed"),
    ]

    assert events == [decode_event(encode_event(event)) for event in events]


@given(text, indexes, text)
def test_the_fast_encoding_of_a_text_delta_decodes_to_the_same_event(
    item_id: str, index: int, piece: str
) -> None:
    assert encode_text_delta(item_id, index, 0, piece) == encode_event(
        text_delta(item_id, index, piece)
    )


def test_events_of_a_streamed_text_are_encoded_without_field_names() -> None:
    delta = text_delta("msg_1", 0, "Hello")

    assert b"delta" not in encode_event(delta)


@given(fields)
def test_a_streamed_event_keeps_unknown_fields(rest: dict[str, Any]) -> None:
    event = {**text_delta("msg_1", 0, "Hello"), **rest, "obfuscation": "x"}

    assert event == decode_event(encode_event(event))


def test_a_streamed_event_keeps_its_log_probabilities() -> None:
    event = {**text_delta("msg_1", 0, "Hello"), "logprobs": [{"token": "Hello", "logprob": -0.5}]}

    assert event == decode_event(encode_event(event))


@given(st.builds(Job, text, text, st.integers(0, 2**40), fields, st.lists(fields, max_size=3)))
def test_any_job_is_decoded_unchanged(job: Job) -> None:
    assert job == decode_job(encode_job(job))


@pytest.mark.parametrize("said", ["\0", "a\u202eb", "👩‍👩‍👧‍👦" * 1000, "\ufffe", "é" * 5000])
def test_a_prompt_is_decoded_byte_for_byte(said: str) -> None:
    job = Job("resp_1", "public", 0, {"input": said})

    assert said.encode() == decode_job(encode_job(job)).params["input"].encode()


@pytest.mark.parametrize(
    ("payload", "change"),
    [
        ([7, [b"a", b"b"]], (7, [b"a", b"b"])),
        ([7, []], (7, [])),
        ([7, 3], Grown(10)),
        ([b"queued", 2, 1500, b"busy"], Waits(2, 1500, "busy")),
        ([b"queued", -2, 0, b"\xff"], Waits(-2, 0, "\ufffd")),
        ([b"gone"], Deleted()),
    ],
)
def test_each_kind_of_notification_is_decoded(payload: list[Any], change: object) -> None:
    assert change == decode_notification(msgpack.packb(payload, use_bin_type=False))


@given(hostile)
def test_hostile_bytes_decode_or_raise_undecodable(data: bytes) -> None:
    for decode in (decode_event, decode_job, decode_notification):
        with contextlib.suppress(Undecodable):
            decode(data)


@given(hostile)
def test_every_decoded_event_has_a_type_that_is_a_string(data: bytes) -> None:
    try:
        event = decode_event(data)
    except Undecodable:
        return
    assert isinstance(event["type"], str)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xc1", id="a byte that MessagePack never uses"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="four billion entries announced"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="four gigabytes announced"),
        pytest.param(b"\x91" * 100_000 + b"\xc0", id="nested a hundred thousand deep"),
        pytest.param(msgpack.packb([1, "msg_1", 0]), id="a streamed text with too few fields"),
        pytest.param(msgpack.packb([99, "msg_1"]), id="an unassigned code"),
        pytest.param(msgpack.packb(["x", {}]) + b"\0", id="more than one value"),
        pytest.param(msgpack.packb(["x", {"type": 5}]), id="a second type among the fields"),
        pytest.param(b"\x92\xa1x\x81\xa1a\xd7\xff" + b"\xff" * 8, id="a time out of range"),
        pytest.param(b"\x92\xa1\xff\x80", id="a type that is not UTF-8"),
    ],
)
def test_a_foreign_entry_is_undecodable(entry: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_event(entry)


@pytest.mark.skipif("MSGPACK_PUREPYTHON" in os.environ, reason="this is the inner run")
def test_the_codec_works_without_the_c_extension_of_msgpack() -> None:
    # msgpack's pure Python version raises other exceptions than its C extension.
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=few",
        __file__,
    ]
    inner = os.environ | {"MSGPACK_PUREPYTHON": "1"}
    inner.pop("CI", None)

    ran = subprocess.run(
        argv, env=inner, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )

    assert 0 == ran.returncode, ran.stdout + ran.stderr
