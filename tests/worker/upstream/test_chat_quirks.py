"""Tests that unusual but unambiguous chat streams produce the same items as a regular stream."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.log.response_state import ResponseState
from tests.worker.recording_sink import RecordingSink
from tests.worker.toolboxes import toolbox_of
from worker.output import Output
from worker.upstream.chat.chunks import ChatChunkReader
from worker.upstream.deltas import ErrorInStream, Malformed, Refusal, Reported, Stopped, Usage
from worker.upstream.finish_reasons import normalized

DONE = b"[DONE]"
FUNCTIONS = ("get", "get_weather", "get_time", "say")
NOISE = (
    b"",
    b" ",
    b"{}",
    b'{"type":"ping"}',
    b"ping",
    b"[PING]",
    b'"keep-alive"',
    b": heartbeat",
    b"...",
    b'{"event":"heartbeat","message":"alive"}',
    b'{"message":"ping"}',
    b'{"choices":[]}',
    b'{"choices":null,"usage":null}',
    b'{"id":"x","object":"chat.completion.chunk","created":1}',
    b'{"choices":[{"index":0,"delta":{},"finish_reason":null}]}',
    b'{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":""}]}',
    b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"name":""}}]}}]}',
    b'{"choices":[{"index":0,"delta":{"content":"","function_call":{"arguments":null}}}]}',
    b'{"choices":[{"index":0,"delta":{"tool_calls":[{"index":7,"id":"","function":{}}]}}]}',
)
REASON_FIELDS = ("finishReason", "stop_reason", "stopReason", "done_reason")
STOPS = {
    "stop": (
        *("stop", "STOP", "eos", "end", "end_turn", "EOS_TOKEN", "FinishReason.STOP", "Stop"),
        *("endTurn", "REASON_STOP", "<|im_end|>", "COMPLETE", "stop-sequence"),
    ),
    "tool_calls": (
        *("tool_calls", "TOOL_CALLS", "tool_use", "function_call", "stop", "end_turn"),
        *("toolUse", "toolCalls", "REASON_TOOL_CALLS", "tools"),
    ),
}

# The forms in which servers send a piece of reasoning or of text.
THOUGHTS: tuple[Callable[[str], dict[str, Any]], ...] = (
    lambda text: {"reasoning": text},
    lambda text: {"reasoning_content": text},
    lambda text: {"reasoning_content": text, "reasoning": text, "reasoning_text": None},
    lambda text: {"reasoning": {"content": text}},
    lambda text: {"thinking_blocks": [{"type": "thinking", "thinking": text}]},
    lambda text: {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]},
    lambda text: {"content": [{"type": "reasoning", "summary": [{"text": text}]}]},
)
CONTENTS: tuple[Callable[[str], Any], ...] = (
    lambda text: text,
    lambda text: [text],
    lambda text: {"type": "text", "text": text},
    lambda text: [{"type": "text", "text": text}, {"type": "reference", "reference_ids": [1]}],
    lambda text: [{"type": "output_text", "text": {"value": text, "annotations": []}}],
    lambda text: [{"type": "text", "content": text}],
)


@dataclass(frozen=True)
class Answer:
    """A model's output: reasoning, text, and function calls with their arguments."""

    reasoning: str
    text: str
    calls: tuple[tuple[str, str], ...]


def shown(items: list[dict[str, Any]]) -> Answer:
    """Combines the items into an answer."""
    texts = {"reasoning": "", "message": ""}
    for item in items:
        if item["type"] in texts:
            texts[item["type"]] += "".join(part["text"] for part in item["content"])
    calls = [item for item in items if item["type"] == "function_call"]
    ids = [item["call_id"] for item in calls]
    assert len(ids) == len(set(ids)), "calls that cannot be told apart"
    told = tuple((item["name"], item["arguments"].strip()) for item in calls)
    return Answer(texts["reasoning"], texts["message"], told)


def read(payloads: list[bytes]) -> tuple[Answer, str | None]:
    """Returns a stream's answer and stop reason. Raises Malformed."""
    reader, log = ChatChunkReader(frozenset(FUNCTIONS)), RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=100_000, toolbox=toolbox_of(*FUNCTIONS))
    pieces = []
    for payload in payloads:
        if payload == DONE:
            pieces += reader.done()
        else:
            if reader.fast_texts(deque([payload])):
                pieces += reader.read(b'{"choices":null}')
            pieces += reader.read(payload)
    pieces += reader.end()
    reason = None
    for piece in pieces:
        if isinstance(piece, Stopped):
            reason = piece.reason
        elif not isinstance(piece, Usage | Reported):
            output.take(piece)
    items = output.end(completed=reason in STOPS)
    assert items == ResponseState(log.events).output
    return shown(items), reason


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.just("a😀b👩‍👩‍👧")
    values = st.dictionaries(st.sampled_from(["city", "a"]), texts | st.integers(), max_size=2)
    arguments = values.map(lambda value: json.dumps(value, ensure_ascii=False))
    calls = st.lists(st.tuples(st.sampled_from(FUNCTIONS), arguments), max_size=3)
    answer = Answer(draw(texts), draw(texts), tuple(draw(calls)))
    return answer if answer != Answer("", "", ()) else Answer("", "x", ())


def split(draw: st.DrawFn, text: str) -> list[str]:
    """Splits the text into pieces; a cut may separate the halves of a surrogate pair."""
    units = text.encode("utf-16-le", "surrogatepass")
    cuts = sorted(draw(st.sets(st.integers(0, len(units) // 2), max_size=4)))
    bounds = [0, *cuts, len(units) // 2]
    return [
        units[2 * a : 2 * b].decode("utf-16-le", "surrogatepass")
        for a, b in itertools.pairwise(bounds)
    ]


def whole(answer: Answer) -> dict[str, Any]:
    """Returns the message of an answer that is not streamed."""
    calls = [
        {"id": f"call_{number}", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(answer.calls)
    ]
    told = {"reasoning_content": answer.reasoning, "content": answer.text, "tool_calls": calls}
    return {"role": "assistant", **told}


def call_deltas(draw: st.DrawFn, answer: Answer) -> list[dict[str, Any]]:
    """Returns an answer's calls as deltas, in one of the forms that servers use."""
    index = draw(st.sampled_from(["int", "text", "float", "none", "zero"]))
    ids = draw(st.sampled_from(["first", "every", "fresh", "none"]))
    if index == "zero" and ids == "none":
        # If all calls had index 0 and no id, two equal calls would look like one call that is sent
        # twice.
        index = "none"
    # A second call may start at the index of the previous call and continue at its own index.
    late = index == "int" and ids == "first" and draw(st.booleans())
    names = draw(st.sampled_from(["first", "every", "pieces"])) if not late else "first"
    field = draw(st.sampled_from(["arguments", "arguments", "parameters", "input"]))
    flat_entries = draw(st.booleans())
    again = draw(st.booleans()) and index in ("int", "text") and ids in ("first", "every")
    placeholder = names == "first" and not late and draw(st.booleans())
    told: list[list[dict[str, Any]]] = []
    for number, (name, arguments) in enumerate(answer.calls):
        pieces = split(draw, arguments)
        if placeholder and arguments != "{}":
            pieces = ["{}", *pieces]
        elif names == "pieces" or late or draw(st.booleans()):
            pieces = ["", *pieces]
        heads = [""] * len(pieces)
        heads[0] = name
        if names == "every":
            heads = [name] * len(pieces)
        elif names == "pieces" and pieces[0] == "":
            at = draw(st.integers(1, len(name)))
            heads[0] = name[:at]
            heads.insert(1, name[at:])
            pieces.insert(1, "")
        deltas = []
        for at, (head, piece) in enumerate(zip(heads, pieces, strict=True)):
            function = {field: piece} | ({"name": head} if head else {})
            call: dict[str, Any] = function if flat_entries else {"function": function}
            call["type"] = "function"
            if ids == "fresh":
                call["id"] = f"call_{number}_{at}"
            elif ids == "every" or (ids == "first" and at == 0):
                call["id"] = f"call_{number}"
            kinds = {
                "int": number - (late and at == 0 and number > 0),
                "text": str(number),
                "float": float(number),
                "zero": 0,
            }
            if index in kinds:
                call["index"] = kinds[index]
            deltas.append(call)
        told.append(deltas)
    if index in ("int", "text", "float") and not late and draw(st.booleans()):
        flat = [one for row in _in_turns(told) for one in row]
    else:
        flat = [one for deltas in told for one in deltas]
    if again:
        for number, (name, arguments) in enumerate(answer.calls):
            function = {"name": name, "arguments": arguments}
            flat.append({"index": 10 + number, "id": f"call_{number}", "function": function})
    return [{"tool_calls": [call]} for call in flat]


def _in_turns(told: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    longest = max(map(len, told), default=0)
    return [[deltas[at] for deltas in told if at < len(deltas)] for at in range(longest)]


@st.composite
def streams(draw: st.DrawFn) -> tuple[Answer, list[bytes]]:
    answer = draw(answers())
    form = draw(st.sampled_from(THOUGHTS))
    place = draw(st.sampled_from(["delta", "delta", "message", "text"]))
    deltas: list[dict[str, Any]] = [form(piece) for piece in split(draw, answer.reasoning)]
    content = draw(st.sampled_from(CONTENTS)) if place == "delta" else CONTENTS[0]
    deltas += [{"content": content(piece)} for piece in split(draw, answer.text)]
    if len(answer.calls) == 1 and draw(st.booleans()):
        name, arguments = answer.calls[0]
        deltas.append({"function_call": {"name": name, "arguments": ""}})
        pieces = split(draw, arguments)
        deltas += [{"function_call": {"arguments": piece}} for piece in pieces]
    else:
        deltas += call_deltas(draw, answer)
    payloads = []
    unfinished = draw(st.sampled_from([None, "", "null"]))
    for one in deltas:
        choice: dict[str, Any] = {"index": 0, "finish_reason": unfinished}
        if place == "text" and isinstance(one.get("content"), str):
            choice["text"] = one["content"]
        elif place == "message" and "tool_calls" not in one and "function_call" not in one:
            choice["message"] = {"role": "assistant", **one}
        else:
            choice["delta"] = one
        payloads.append(
            json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode()
        )
        if draw(st.integers(0, 3)) == 0:
            payloads.append(draw(st.sampled_from(NOISE)))
    reason = draw(st.sampled_from(STOPS["tool_calls" if answer.calls else "stop"]))
    last: dict[str, Any] = {"index": 0, "delta": {}}
    field = draw(st.sampled_from(["finish_reason", "finish_reason", *REASON_FIELDS]))
    where = draw(st.sampled_from(["choice", "choice", "delta", "chunk"]))
    if where == "delta":
        last["delta"] = {field: reason}
    elif where == "choice":
        last[field] = reason
    if where != "choice" or field != "finish_reason":
        last |= draw(st.sampled_from([{}, {"finish_reason": None}]))
    if place == "delta" and draw(st.booleans()):
        # Repeat the whole message in addition to the deltas.
        last["message"] = whole(answer)
    chunk: dict[str, Any] = {"choices": [last]}
    if where == "chunk":
        chunk = {"choices": draw(st.sampled_from([[], [last]])), field: reason}
        if "message" in last:
            chunk["choices"] = [last]
    payloads += [json.dumps(chunk).encode()] * draw(st.integers(1, 2))
    return answer, [*payloads, DONE]


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(streams())
def test_unusual_but_unambiguous_streams_yield_the_items_of_the_plain_stream(
    case: tuple[Answer, list[bytes]],
) -> None:
    answer, payloads = case
    found, reason = read(payloads)
    assert answer == found
    assert reason in STOPS


def frame(delta: Any = None, reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": reason, **more}
    return json.dumps({"choices": [choice]}).encode()


def called(**fields: Any) -> bytes:
    function = {name: fields.pop(name) for name in ("name", "arguments") if name in fields}
    return frame({"tool_calls": [{**fields, "function": function}]})


STOP, CALLS = frame(reason="stop"), frame(reason="tool_calls")
BERN, ROME = '{"city":"Bern"}', '{"city":"Rome"}'


@pytest.mark.parametrize(
    "payloads",
    [
        [STOP],
        [frame({"odd": "Hello"}), STOP],
        [frame({"role": "assistant", "audio": {"data": "x"}}), STOP],
        [frame(output="Hello", reason="stop")],
        [frame({"content": [{"type": "image", "image": "x"}]}), STOP],
        [frame({"content": "hm"}), CALLS],
        [frame({"content": "hm"}), frame({"content": "other"}, index=1), STOP],
        [frame({"content": "hm"}), called(index=0, id="c", arguments=BERN), CALLS],
        [frame({"content": "hm"}), called(index=0, id="c", arguments=BERN), STOP],
        [called(index=0, name="get", arguments=BERN), called(index=0, arguments=ROME), CALLS],
        [called(index=0, name="get", arguments=BERN), called(index=1, arguments=ROME), CALLS],
        [called(name="get", arguments=BERN), CALLS, called(index=7, arguments=ROME)],
        [called(index=0, name="get", arguments='{"city":"Be'), CALLS],
        [called(index=0, name="get", arguments='{"city":{'), called(index=0, arguments="}"), STOP],
        [called(index=0, name="get", arguments=BERN), called(index=0, name="_time"), CALLS],
        [b'{"message":{"content":"Hello"},"done":true}'],
        [b'{"type":"response.output_text.delta","delta":"Hello"}'],
    ],
)
def test_streams_that_cannot_be_interpreted_are_not_completed(payloads: list[bytes]) -> None:
    reader, pieces = ChatChunkReader(frozenset(FUNCTIONS)), []
    with pytest.raises((Malformed, ErrorInStream)):
        for payload in payloads:
            pieces += reader.read(payload)
        reader.end()
    late = payloads[-1] not in (STOP, CALLS)
    assert late or not any(isinstance(piece, Stopped) for piece in pieces)


@pytest.mark.parametrize(
    ("payloads", "calls"),
    [
        # The reader passes the model's own mistakes on unchanged.
        ([called(index=0, name="get", arguments='{"a":1}}'), CALLS], [("get", '{"a":1}}')]),
        ([called(index=0, name="get", arguments="not JSON"), STOP], [("get", "not JSON")]),
        ([called(index=0, name="get", arguments=None), STOP], [("get", "{}")]),
        ([called(index=0, name="get", arguments={"a": 1}), STOP], [("get", '{"a": 1}')]),
        # A call without an id that follows a call with the same name and arguments.
        ([called(name="get", arguments=BERN)] * 2 + [CALLS], [("get", BERN)] * 2),
        # All calls have the same id.
        (
            [
                called(index=0, id="c", name="get", arguments=BERN),
                called(index=1, id="c", name="get", arguments=ROME),
                CALLS,
            ],
            [("get", BERN), ("get", ROME)],
        ),
        # A call whose name arrives at the previous call's index and whose arguments arrive at its
        # own.
        (
            [
                called(index=0, id="a", name="get", arguments=""),
                called(index=0, arguments=BERN),
                called(index=0, id="b", name="get", arguments=""),
                called(index=1, arguments=ROME),
                CALLS,
            ],
            [("get", BERN), ("get", ROME)],
        ),
        ([called(index=0, id=7, name="get", arguments=BERN), CALLS], [("get", BERN)]),
        # Stop reasons of Cohere and Anthropic.
        (
            [frame({"tool_calls": [{"name": "get", "parameters": {"a": 1}}]}), CALLS],
            [("get", '{"a": 1}')],
        ),
        (
            [
                frame({"content": [{"type": "tool_use", "id": "a", "name": "get", "input": {}}]}),
                frame(reason="tool_use"),
            ],
            [("get", "{}")],
        ),
        # One answer, divided into two choices: text in the first, calls in the second.
        (
            [
                json.dumps(
                    {
                        "choices": [
                            {"index": 0, "message": {"content": "hm"}, "finish_reason": "stop"},
                            {
                                "index": 1,
                                "message": {
                                    "tool_calls": [{"function": {"name": "get", "arguments": BERN}}]
                                },
                            },
                        ]
                    }
                ).encode()
            ],
            [("get", BERN)],
        ),
        # One call in both forms: `function_call` and `tool_calls`.
        (
            [
                frame(
                    {
                        "function_call": {"name": "get", "arguments": BERN},
                        "tool_calls": [{"function": {"name": "get", "arguments": BERN}}],
                    }
                ),
                STOP,
            ],
            [("get", BERN)],
        ),
        # Two simultaneous calls, each in pieces, without an index or an id.
        (
            [
                frame({"tool_calls": [{"function": {"name": name}} for name in ("get", "say")]}),
                frame({"tool_calls": [{"function": {"arguments": a}} for a in (BERN, ROME)]}),
                CALLS,
            ],
            [("get", BERN), ("say", ROME)],
        ),
    ],
)
def test_calls_without_ids_or_indexes_are_told_apart(
    payloads: list[bytes], calls: list[tuple[str, str]]
) -> None:
    found, _ = read(payloads)
    assert calls == list(found.calls)


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        (["", '{"ci', '{"city":"Be', BERN], BERN),
        (["{", '{"', BERN, BERN], BERN),
        # Pieces that repeat the start of the previous piece but are not accumulated texts.
        (['{"a":', '{"a":1}', "}"], '{"a":{"a":1}}'),
        (['{"a":', '{"a":', "1}}"], '{"a":{"a":1}}'),
        (["{", '{"a":1', "}}"], '{{"a":1}}'),
        ([""], "{}"),
    ],
)
@pytest.mark.parametrize("named", ["first", "every"])
def test_cumulative_and_missing_arguments_are_accepted(
    pieces: list[str], arguments: str, named: str
) -> None:
    payloads = [
        called(index=0, id="a", arguments=piece, **({"name": "get"} if named == "every" else {}))
        for piece in pieces
    ]
    found, _ = read([called(index=0, id="a", name="get"), *payloads, CALLS, DONE])
    assert (("get", arguments),) == found.calls


@pytest.mark.parametrize("last", ['{"town":"Bern"}', '{"city":"Be'])
def test_arguments_that_change_their_beginning_are_malformed(last: str) -> None:
    with pytest.raises(Malformed):
        read([called(index=0, name="get", arguments=one) for one in ('{"c', last)] + [CALLS, DONE])


def test_a_call_truncated_by_a_limit_is_not_malformed() -> None:
    payloads = [called(index=0, name="get", arguments='{"city":"Be'), frame(reason="length")]
    answer, reason = read([*payloads, DONE])
    assert ((("get", '{"city":"Be'),), "length") == (answer.calls, reason)
    answer, _ = read([called(index=0, name="get", arguments=""), frame(reason="length"), DONE])
    assert (("get", ""),) == answer.calls


@pytest.mark.parametrize(
    ("payloads", "reason"),
    [
        ([called(index=0, name="get", arguments=BERN), DONE], "tool_calls"),
        ([called(index=0, name="get", arguments=BERN)], None),
        ([called(index=0, name="get", arguments=""), DONE], None),
        ([frame({"content": "Yes."}), DONE], None),
        ([called(index=0, name="get", arguments=BERN), frame(reason="length"), DONE], "length"),
    ],
)
def test_only_complete_calls_may_lack_a_stop_reason(
    payloads: list[bytes], reason: str | None
) -> None:
    assert reason == read(payloads)[1]


def test_a_part_may_be_a_refusal() -> None:
    reader = ChatChunkReader()
    said = reader.read(frame({"content": [{"type": "refusal", "refusal": "No."}]}))
    assert [Refusal("No.")] == said


@pytest.mark.parametrize(
    ("payloads", "text"),
    [
        ([frame(message={"content": "Hel"}), frame(message={"content": "lo"}), STOP], "Hello"),
        ([frame(message={"content": "Hel"}), frame(message={"content": "Hello"}), STOP], "Hello"),
        ([frame(message={"content": "Hello"}, reason="stop")], "Hello"),
        (
            [
                frame(message={"content": "Hello"}),
                frame(message={"content": "Hello"}, reason="stop"),
            ],
            "Hello",
        ),
        (
            [frame({"content": "Hello"}), frame(message={"content": "Hello"}, reason="stop")],
            "Hello",
        ),
        ([frame(text="Hel"), frame(text="lo"), frame(text="", reason="length")], "Hello"),
        ([frame({"content": "Hello"}, stop_reason="x"), frame(reason="content_filter")], "Hello"),
        # Gemini has sent the stop reason under the field name of its native API.
        ([frame({"content": "Hello"}), frame(finishReason="STOP")], "Hello"),
        ([frame({"role": "assistant", "content": ""}), STOP], ""),
    ],
)
def test_the_answer_is_found_in_alternative_fields(payloads: list[bytes], text: str) -> None:
    assert text == read(payloads)[0].text


@pytest.mark.parametrize(
    ("word", "reason"),
    [(word, "stop") for word in STOPS["stop"]]
    + [(word, "tool_calls") for word in STOPS["tool_calls"] if word not in STOPS["stop"]]
    + [("maxTokens", "length"), ("REASON_MAX_LEN", "length"), ("output_limit", "length")]
    + [("content_filter: OTHER", "content_filter"), ("blacklist", "content_filter")]
    + [("MODEL_ARMOR", "content_filter"), ("TOO_MANY_TOOL_CALLS", "error"), ("停", "unknown")]
    + [("function_call_filter: MALFORMED_FUNCTION_CALL", "error"), ("1", "unknown")]
    + [("MAX_TOKENS", "length"), ("model_length", "length"), ("SAFETY", "content_filter")]
    + [("content-filter", "content_filter"), ("odd", "unknown"), ("error", "error")]
    + [("IMAGE_PROHIBITED_CONTENT", "content_filter"), ("output_moderated", "content_filter")]
    + [("abort", "error"), ("MALFORMED_FUNCTION_CALL", "error"), ("OTHER", "unknown")]
    + [({"type": "length", "length": 7}, "length")],
)
def test_synonyms_of_stop_reasons_are_recognized(word: Any, reason: str) -> None:
    assert reason == normalized(word)


@pytest.mark.parametrize("word", [None, "", " ", "null", "None", "FINISH_REASON_UNSPECIFIED"])
def test_placeholder_stop_reasons_are_ignored(word: str | None) -> None:
    assert normalized(word) is None
