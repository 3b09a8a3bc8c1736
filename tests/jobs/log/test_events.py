"""Tests that Holdline and the official SDK accumulate the same response from a log's events."""

from __future__ import annotations

import hashlib
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from jobs.log.codec import Event, decode_event, encode_event
from jobs.log.events import RESTARTED, TERMINAL_TYPES, output_text, restarted, submitted, terminal
from jobs.log.items import text_part
from jobs.log.response_state import ResponseState
from jobs.record import Job, Status
from tests.jobs.factories import a_job, ending, opening, said, saying

SDK_EVENTS: dict[str, type[BaseModel]] = {
    get_args(kind.model_fields["type"].annotation)[0]: kind
    for kind in get_args(get_args(ResponseStreamEvent)[0])
}

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def end(job: Job, state: ResponseState, status: Status, attempts: int = 1) -> Event:
    """Returns the terminal event for the output so far."""
    return terminal(
        job,
        status,
        output=state.output,
        attempts=attempts,
        timing={"waited": 1},
        completed_at=1_700_000_001,
        usage={
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 3,
        },
        error={"code": "server_error", "message": "It broke."} if status is Status.FAILED else None,
        incomplete="max_output_tokens" if status is Status.INCOMPLETE else None,
    )


def a_normal_answer(job: Job) -> list[Event]:
    events = [
        *opening(job),
        *saying(job, 1, 0, ["Be", "cause ", "👩‍👧"]),
        *said(job, 1, 0, "Because 👩‍👧"),
    ]
    return [*events, end(job, ResponseState(events), Status.COMPLETED)]


def a_restarted_answer(job: Job) -> list[Event]:
    events = [*opening(job), *saying(job, 1, 0, ["Be", "ca"])]
    events += ResponseState(events).close()
    events.append(restarted(job, 2, "worker_lost"))
    index = ResponseState(events).next_index
    events += [*saying(job, 2, index, ["Once ", "more"]), *said(job, 2, index, "Once more")]
    return [*events, end(job, ResponseState(events), Status.COMPLETED, attempts=2)]


def a_broken_answer(job: Job, status: Status) -> list[Event]:
    events = [*opening(job), *saying(job, 1, 0, ["Be", "ca"])]
    events += ResponseState(events).close()
    return [*events, end(job, ResponseState(events), status)]


def an_unstarted_answer(job: Job, status: Status) -> list[Event]:
    return [*opening(job), end(job, ResponseState(opening(job)), status, attempts=0)]


ANSWERS = [
    pytest.param(a_normal_answer, "Because 👩‍👧", id="normal"),
    pytest.param(a_restarted_answer, "Once more", id="restarted"),
    pytest.param(lambda job: a_broken_answer(job, Status.INCOMPLETE), "Beca", id="incomplete"),
    pytest.param(lambda job: a_broken_answer(job, Status.FAILED), "Beca", id="failed"),
    pytest.param(lambda job: a_broken_answer(job, Status.CANCELLED), "Beca", id="cancelled"),
    pytest.param(lambda job: an_unstarted_answer(job, Status.CANCELLED), "", id="never started"),
    pytest.param(lambda job: an_unstarted_answer(job, Status.FAILED), "", id="never claimed"),
]


def on_the_wire(events: list[Event]) -> list[dict[str, Any]]:
    """Returns the events as a client receives them: encoded, decoded and numbered."""
    through = [decode_event(encode_event(event)) for event in events]
    return [{**event, "sequence_number": number} for number, event in enumerate(through)]


def added_up_by_the_sdk(events: list[Event]) -> Response:
    """Returns the response that the SDK's accumulator builds from the events."""
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    response = None
    for event in on_the_wire(events):
        # The SDK ignores event types that it does not know, such as `holdline:restarted`.
        if event["type"] != RESTARTED:
            for seen in state.handle_event(EVENT.validate_python(event)):
                response = getattr(seen, "response", None)
    assert isinstance(response, Response)
    return response


def missing_fields(value: object, model: BaseModel, path: str = "") -> list[str]:
    """Returns the missing required fields, which the SDK's lenient parser does not report."""
    assert isinstance(value, dict)
    missing = []
    for name, field in type(model).model_fields.items():
        key = field.alias or name
        if key not in value:
            if field.is_required():
                missing.append(f"{path}.{key}")
            continue
        found = getattr(model, name)
        pairs = (
            zip(value[key], found, strict=True)
            if isinstance(found, list)
            else [(value[key], found)]
        )
        for number, (part, inner) in enumerate(pairs):
            if isinstance(inner, BaseModel):
                missing += missing_fields(part, inner, f"{path}.{key}[{number}]")
    return missing


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_every_standard_event_has_the_fields_that_the_sdk_requires(answer: Any, text: str) -> None:
    for event in on_the_wire(answer(a_job())):
        if event["type"] == RESTARTED:
            continue
        model = TypeAdapter(SDK_EVENTS[event["type"]]).validate_python(event)
        assert [] == missing_fields(event, model)


def test_the_check_against_the_sdk_notices_a_missing_field() -> None:
    delta = on_the_wire(a_normal_answer(a_job()))[5]
    assert "response.output_text.delta" == delta["type"]
    for field in sorted(delta.keys() - {"type"}):
        cut = {name: value for name, value in delta.items() if name != field}
        with pytest.raises(ValueError, match="Field required"):
            TypeAdapter(SDK_EVENTS[delta["type"]]).validate_python(cut)


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_the_sdk_accumulates_events_to_the_same_response(answer: Any, text: str) -> None:
    events = answer(a_job())

    response = added_up_by_the_sdk(events)

    assert text == response.output_text
    assert [item["id"] for item in ResponseState(events).output] == [
        item.id for item in response.output
    ]


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_the_accumulated_state_equals_the_terminal_event(answer: Any, text: str) -> None:
    events = answer(a_job())

    state = ResponseState(events[:-1])

    assert events[-1]["response"]["output"] == state.output
    assert text == output_text(state.output)
    assert state.end is None
    assert [] == state.close()


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_only_the_last_event_is_terminal(answer: Any, text: str) -> None:
    events = answer(a_job())
    ends = [event for event in events if event["type"] in TERMINAL_TYPES]

    assert [events[-1]] == ends
    assert events[-1] == ResponseState(events).end


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_the_terminal_event_carries_the_checksum_of_the_text(answer: Any, text: str) -> None:
    checksum = answer(a_job())[-1]["response"]["holdline"]

    assert hashlib.sha256(text.encode()).hexdigest() == checksum["sha256"]
    assert len(text.encode()) == checksum["bytes"]


@pytest.mark.parametrize(("answer", "text"), ANSWERS)
def test_an_answer_can_be_closed_after_any_event(answer: Any, text: str) -> None:
    job = a_job()
    events = answer(job)[:-1]
    for cut in range(2, len(events) + 1):
        state = ResponseState(events[:cut])
        closed = [*events[:cut], *state.close()]
        closed.append(end(job, state, Status.INCOMPLETE))

        assert output_text(state.output) == added_up_by_the_sdk(closed).output_text


def test_a_restart_uses_fresh_output_indexes_and_ids() -> None:
    events = a_restarted_answer(a_job())
    added = [event for event in events if event["type"] == "response.output_item.added"]

    assert [0, 1] == [event["output_index"] for event in added]
    assert 2 == len({event["item"]["id"] for event in added})


def test_after_a_restart_only_the_last_attempt_counts() -> None:
    job = a_job()
    events = [*opening(job), *saying(job, 1, 0, ["first"]), restarted(job, 2, "worker_lost")]

    state = ResponseState(events)

    assert [] == state.output
    assert 1 == state.next_index
    assert [] == state.close()


def test_a_closed_answer_is_incomplete_and_keeps_its_text() -> None:
    job = a_job()
    state = ResponseState([*opening(job), *saying(job, 1, 0, ["Be", "ca"])])

    closing = state.close()

    assert [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
    ] == [event["type"] for event in closing]
    assert "Beca" == closing[0]["text"]
    assert "incomplete" == closing[2]["item"]["status"]
    assert [] == state.close()


@given(st.lists(st.text(max_size=5), max_size=20), st.integers(0, 40))
def test_a_state_can_be_built_in_two_steps_at_any_point(pieces: list[str], cut: int) -> None:
    job = a_job()
    events = [*opening(job), *saying(job, 1, 0, pieces), *said(job, 1, 0, "".join(pieces))]

    halves = ResponseState(events[:cut])
    for event in events[cut:]:
        halves.apply(event)

    assert ResponseState(events).output == halves.output
    assert "".join(pieces) == output_text(halves.output)


def test_folding_events_does_not_change_them() -> None:
    events = a_restarted_answer(a_job())
    before = [encode_event(event) for event in events]

    ResponseState(events).close()

    assert before == [encode_event(event) for event in events]


@pytest.mark.parametrize("status", [status for status in Status if status.ended])
def test_only_a_completed_response_has_a_time_of_completion(status: Status) -> None:
    response = ending(a_job(), status)["response"]

    assert status == response["status"]
    assert (status is Status.COMPLETED) == (response["completed_at"] is not None)


def test_a_response_has_every_field_that_the_sdk_requires() -> None:
    response = ending(a_job(), Status.COMPLETED)["response"]

    assert [] == missing_fields(response, TypeAdapter(Response).validate_python(response))


def test_a_response_shows_its_parameters_unchanged() -> None:
    job = a_job(temperature=0.0, top_p=0.5, store=False, metadata={"a": "b"}, max_output_tokens=7)
    response = ending(job)["response"]

    assert (0.0, 0.5, False, {"a": "b"}, 7) == (
        response["temperature"],
        response["top_p"],
        response["store"],
        response["metadata"],
        response["max_output_tokens"],
    )


def test_the_text_of_a_response_consists_of_its_messages_only() -> None:
    output = [
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "message", "content": [text_part("a"), {"type": "refusal", "refusal": "no"}]},
        {"type": "message", "content": [text_part("b")]},
    ]

    assert "ab" == output_text(output)


def test_a_response_repeats_its_tools_without_their_credentials() -> None:
    policy = {"type": "allowlist", "allowed_domains": ["a.example"]}
    secrets = {"domain_secrets": [{"domain": "a.example", "name": "A", "value": "secret"}]}
    schema = {"type": "object", "properties": {"headers": {}, "authorization": {}}}
    function = {"type": "function", "name": "f", "parameters": schema}
    mcp = {"type": "mcp", "server_label": "m", "server_url": "https://m.example"}
    tools: list[Any] = [
        function,
        {"type": "namespace", "name": "n", "tools": [function]},
        {**mcp, "authorization": "secret", "headers": {"X-Key": "secret"}},
        {**mcp, "headers": None},
        {
            "type": "code_interpreter",
            "container": {"type": "auto", "network_policy": {**policy, **secrets}},
        },
    ]
    job = a_job(tools=tools)
    for event in [*submitted(job), end(job, ResponseState(), Status.COMPLETED)]:
        shown = event["response"]["tools"]
        assert [*tools[:2], mcp, tools[3]] == shown[:4]
        assert [{"type": "auto", "network_policy": policy}] == [shown[4]["container"]]
    assert tools == job.params["tools"]
