"""Tests that models with chat completions can use the standard's client-side tools."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseOutputItem, ResponseStreamEvent
from pydantic import TypeAdapter

from jobs.log.events import RESTARTED, restarted
from jobs.log.items import RESULT_TYPES
from jobs.log.response_state import ResponseState
from jobs.record import Job
from tests.jobs.factories import a_job, opening
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness
from tests.worker.recording_sink import RecordingSink
from worker.output import MIN_OTHER_BYTES, NotAllowed, Output
from worker.upstream.chat.chunks import ChatChunkReader
from worker.upstream.chat.custom_input import InputDecoder
from worker.upstream.chat.messages import UnsupportedInput
from worker.upstream.chat.request import completion
from worker.upstream.chat.toolbox import Toolbox
from worker.upstream.deltas import Call, Malformed, Reported, Stopped, TooLong, Usage

from . import chat_rules

Json = dict[str, Any]
EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
ITEM: TypeAdapter[ResponseOutputItem] = TypeAdapter(ResponseOutputItem)
GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
TOOLS: list[Json] = [
    {"type": "function", "name": "f", "parameters": {"type": "object"}, "defer_loading": True},
    {"type": "custom", "name": "sql", "description": "Runs SQL.", "format": GRAMMAR},
    {
        "type": "namespace",
        "name": "crm",
        "description": "Customers.",
        "tools": [
            {"type": "function", "name": "f", "description": "Finds one."},
            {"type": "custom", "name": "note"},
        ],
    },
    {"type": "local_shell"},
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "apply_patch"},
    {"type": "tool_search"},
]
NAMES = ["f", "sql", "crm__f", "crm__note", "local_shell", "shell", "apply_patch"]
PATCH = {"type": "update_file", "path": "a.py", "diff": "@@\n-a\n+b"}


def asked(**params: Any) -> Json:
    """Returns the arguments of a chat completion with the tools."""
    return completion(
        Job("resp_x", "me", 0, {"model": "m", "tools": TOOLS} | params), default_model="m"
    )


def names(arguments: Json) -> list[str]:
    return [tool["function"]["name"] for tool in arguments.get("tools", ())]


def take(calls: list[tuple[str, str]], *, most: int = 10_000) -> tuple[list[Json], RecordingSink]:
    """Returns the items and the events of complete calls: pairs of a function and arguments."""
    log = RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=most, toolbox=Toolbox({"tools": TOOLS}))
    for key, (name, arguments) in enumerate(calls):
        output.take(Call(key, f"call_{key}", name, arguments))
    output.end_calls()
    items = output.end(completed=True)
    assert items == ResponseState(log.events).output
    return items, log


def one(name: str, arguments: str) -> Json:
    (item,), _ = take([(name, arguments)])
    return item


# The request


def test_client_side_tools_become_functions() -> None:
    arguments = asked()
    assert NAMES == names(arguments)
    function, custom, found, note, *_ = (tool["function"] for tool in arguments["tools"])
    assert {"name": "f", "parameters": {"type": "object"}} == function
    assert ["input"] == custom["parameters"]["required"] == note["parameters"]["required"]
    assert "Runs SQL." in custom["description"]
    assert "start: /.+/" in custom["description"]
    assert "Customers.\n\nFinds one." == found["description"]


def test_names_of_functions_are_short_and_unique() -> None:
    long = "x" * 64
    tools: list[Json] = [
        {"type": "custom", "name": "a__b"},
        {"type": "namespace", "name": "a", "tools": [{"type": "function", "name": "b"}]},
        {"type": "namespace", "name": long, "tools": [{"type": "function", "name": "f"}]},
        {"type": "namespace", "name": long, "tools": [{"type": "function", "name": "g"}]},
        {"type": "namespace", "name": "é.", "tools": [{"type": "custom", "name": "ü"}]},
        {"type": "custom", "name": "shell"},
        {"type": "shell"},
        {"type": "function", "name": "shell"},
    ]
    found = names(asked(tools=tools))
    assert 8 == len(set(found))
    assert "shell" == found[-1]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in found)
    toolbox = Toolbox({"tools": tools})
    assert [(tool.namespace, tool.name) for tool in map(toolbox.get, found[2:4]) if tool] == [
        (long, "f"),
        (long, "g"),
    ]


CHOICES: list[tuple[Any, list[str], Any]] = [
    ("auto", NAMES, "auto"),
    ("none", NAMES, "none"),
    ({"type": "function", "name": "f"}, ["f"], "f"),
    ({"type": "custom", "name": "sql"}, ["sql"], "sql"),
    ({"type": "shell"}, ["shell"], "shell"),
    ({"type": "apply_patch"}, ["apply_patch"], "apply_patch"),
    (
        {
            "type": "allowed_tools",
            "mode": "required",
            "tools": [{"type": "custom", "name": "sql"}, {"type": "local_shell"}],
        },
        ["sql", "local_shell"],
        "required",
    ),
    (
        {
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "namespace", "name": "crm"}, {"type": "apply_patch"}],
        },
        ["crm__f", "crm__note", "apply_patch"],
        "auto",
    ),
]


@pytest.mark.parametrize(("choice", "sent", "told"), CHOICES)
def test_a_tool_choice_names_the_function(choice: Any, sent: list[str], told: Any) -> None:
    arguments = asked(tool_choice=choice)
    assert sent == names(arguments)
    chosen = arguments["tool_choice"]
    assert told == (chosen["function"]["name"] if isinstance(chosen, dict) else chosen)
    allowed = Toolbox({"tools": TOOLS, "tool_choice": choice})
    assert ([] if choice == "none" else sent) == [n for n in NAMES if allowed.get(n)]


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "web_search"},
        {"type": "mcp", "server_label": "x"},
        {"type": "shell", "environment": {"type": "container_auto"}},
    ],
)
def test_other_tools_are_unsupported_unless_they_are_dropped(tool: Json) -> None:
    job = Job("resp_x", "me", 0, {"tools": [tool, TOOLS[0]]})
    with pytest.raises(UnsupportedInput):
        completion(job, default_model="m")
    assert ["f"] == names(completion(job, default_model="m", drops_tools=True))


@pytest.mark.parametrize(
    ("choice", "is_possible"),
    [
        ("auto", True),
        ("required", False),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]}, True),
        ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]}, False),
    ],
)
def test_a_choice_that_requires_a_dropped_tool_is_unsupported(
    choice: Any, is_possible: bool
) -> None:
    params = {"tools": [{"type": "web_search"}], "tool_choice": choice}
    job = Job("resp_x", "me", 0, params)
    if is_possible:
        assert "tools" not in completion(job, default_model="m", drops_tools=True)
    else:
        with pytest.raises(UnsupportedInput):
            completion(job, default_model="m", drops_tools=True)


# The calls


def test_calls_come_back_as_the_calls_of_their_tools() -> None:
    items, _ = take(
        [
            ("f", '{"a":1}'),
            ("crm__f", "{}"),
            ("sql", '{"input":"select \\"a\\""}'),
            ("crm__note", '{"input":"hi"}'),
            ("local_shell", '{"command":["ls","-l"],"timeout_ms":5,"env":null}'),
            ("shell", '{"commands":["ls","pwd"],"max_output_length":9}'),
            ("apply_patch", json.dumps(PATCH)),
            ("apply_patch", '{"type":"delete_file","path":"b","diff":""}'),
        ]
    )
    for item in items:
        ITEM.validate_python(item)
    told = [
        {k: v for k, v in item.items() if k not in ("id", "call_id", "status")} for item in items
    ]
    assert [
        {"type": "function_call", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call", "name": "f", "arguments": "{}", "namespace": "crm"},
        {"type": "custom_tool_call", "name": "sql", "input": 'select "a"'},
        {"type": "custom_tool_call", "name": "note", "input": "hi", "namespace": "crm"},
        {
            "type": "local_shell_call",
            "action": {"type": "exec", "command": ["ls", "-l"], "timeout_ms": 5, "env": {}},
        },
        {"type": "shell_call", "action": {"commands": ["ls", "pwd"], "max_output_length": 9}},
        {"type": "apply_patch_call", "operation": PATCH},
        {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "b"}},
    ] == told
    assert [f"call_{key}" for key in range(8)] == [item["call_id"] for item in items]
    assert {"completed"} == {item["status"] for item in items}


def test_calls_have_the_events_of_the_standard() -> None:
    _, log = take([("sql", '{"input":"a"}'), ("shell", '{"commands":["ls",""]}')])
    for number, event in enumerate(log.events):
        EVENT.validate_python({**event, "sequence_number": number})
    assert [
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "output_item.added",
        "shell_call_command.added",
        "shell_call_command.delta",
        "shell_call_command.done",
        "shell_call_command.added",
        "shell_call_command.delta",
        "shell_call_command.done",
        "output_item.done",
    ] == [event["type"].removeprefix("response.") for event in log.events]


MISFITS = [
    ("sql", '{"input":"a","why":"b"}'),
    ("sql", '{"why":"b","input":"a"}'),
    ("sql", '{"input":"a'),
    ("shell", "ls"),
    ("shell", "{}"),
    ("shell", '{"commands":"ls"}'),
    ("shell", '{"commands":["ls"],"cwd":"/"}'),
    ("shell", '{"commands":["ls"],"timeout_ms":1e99}'),
    ("local_shell", '{"command":"ls"}'),
    ("local_shell", '{"command":["ls"]'),
    ("apply_patch", '{"type":"update_file","path":"a"}'),
    ("apply_patch", '{"type":"rename_file","path":"a","diff":""}'),
    ("apply_patch", '{"type":"delete_file","path":"a","diff":"-a"}'),
    ("apply_patch", "[" * 100_000),
]


@pytest.mark.parametrize(("name", "arguments"), MISFITS)
def test_arguments_that_do_not_fit_the_tool_are_malformed(name: str, arguments: str) -> None:
    with pytest.raises(Malformed):
        take([(name, arguments)], most=1_000_000)


INPUTS = {
    '{"input":"\\ud83d\\ude00\\n\\u00e9\\/"}': "😀\né/",
    '{"input":"a\nb\\d\\user"}': "a\nb\\d\\user",
    '{"input":"\\ud83d!"}': "\ufffd!",
    ' { "input" : "" } ': "",
    "{}": "",
    "": "",
    "select {a} from b": "select {a} from b",
    '"select 1"': "select 1",
    '"a" or "b"': '"a" or "b"',
    '{"sql":"select 1"}': '{"sql":"select 1"}',
    '{"input":1}': '{"input":1}',
    "[1]": "[1]",
    " " * 20 + '{"input":"x"}': "x",
}


@pytest.mark.parametrize("arguments", INPUTS)
def test_the_input_of_a_custom_tool_is_decoded_from_any_form(arguments: str) -> None:
    assert INPUTS[arguments] == one("sql", arguments)["input"]


pieces = st.lists(
    st.sampled_from(["{", "}", '"', '"input"', ":", "\\", "u", "d83d", "de00", "n", " ", ",", "é"])
    | st.text(max_size=3),
    max_size=12,
)


def decoded(parts: list[str]) -> str | None:
    decoder = InputDecoder()
    try:
        return "".join([*map(decoder.feed, parts), decoder.end()])
    except Malformed:
        return None


@given(pieces, st.lists(st.integers(0, 60), max_size=5), st.booleans())
def test_an_input_does_not_depend_on_the_division_into_pieces(
    parts: list[str], cuts: list[int], begun: bool
) -> None:
    text = ('{"input":"' if begun else "") + "".join(parts)
    bounds = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    divided = [text[a:b] for a, b in itertools.pairwise(bounds)]
    assert decoded([text]) == decoded(divided) == decoded(list(text))


@given(st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_any_input_survives_its_way_through_json(text: str, ascii_only: bool) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only)
    assert text == decoded(list(arguments))


STREAMED: list[tuple[str, str]] = [
    ("sql", json.dumps({"input": 'a "b" 😀\n{'})),
    ("sql", "select {a, b} {c}"),
    ("crm__note", json.dumps({"input": "x"})),
    ("crm__f", '{"a": "é"}'),
    ("shell", '{"commands": ["ls {a}", "😀"]}'),
    ("local_shell", '{"command": ["ls"]}'),
    ("apply_patch", json.dumps(PATCH)),
]


@given(st.lists(st.sampled_from(STREAMED), max_size=3), st.data())
def test_items_do_not_depend_on_the_division_into_chunks(
    calls: list[tuple[str, str]], data: st.DataObject
) -> None:
    reader, log = ChatChunkReader(frozenset(NAMES)), RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=10_000, toolbox=Toolbox({"tools": TOOLS}))
    for index, (name, arguments) in enumerate(calls):
        cuts = data.draw(st.lists(st.integers(0, len(arguments)), max_size=4))
        bounds = sorted({0, len(arguments), *cuts})
        head: Json = {"id": f"call_{index}", "type": "function"}
        for number, (a, b) in enumerate(itertools.pairwise(bounds)):
            function = {"arguments": arguments[a:b]} | ({} if number else {"name": name})
            call = {"index": index, "function": function} | ({} if number else head)
            chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}
            for piece in reader.read(json.dumps(chunk).encode()):
                assert not isinstance(piece, Stopped | Usage | Reported)
                output.take(piece)
    reason = "tool_calls" if calls else "stop"
    end = {"choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": reason}]}
    for piece in [*reader.read(json.dumps(end).encode()), *reader.end()]:
        if not isinstance(piece, Stopped | Usage | Reported):
            output.take(piece)
    output.end_calls()
    items = output.end(completed=True)
    if calls:
        assert take(calls)[0] == items
    assert items == ResponseState(log.events).output


@pytest.mark.parametrize(
    "name",
    ["local_shell", "shell", "apply_patch"],
)
def test_an_action_is_never_reported_from_incomplete_arguments(name: str) -> None:
    log = RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=1000, toolbox=Toolbox({"tools": TOOLS}))
    output.take(Call(0, "call_0", name, '{"commands":["rm -r /tmp/x"'))
    assert [] == output.end(completed=False)
    assert [] == log.events


def test_the_item_of_a_truncated_custom_call_has_no_input_that_a_client_could_execute() -> None:
    log = RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=12, toolbox=Toolbox({"tools": TOOLS}))
    with pytest.raises(TooLong):
        output.take(Call(0, "call_0", "sql", '{"input":"abc"}'))
    (item,) = output.end(completed=False)
    assert ("", "incomplete") == (item["input"], item["status"])
    assert ["ab"] == [event["delta"] for event in log.events if "delta" in event]
    assert [item] == ResponseState(log.events).output


def test_a_log_that_ends_at_any_event_of_a_call_can_be_closed() -> None:
    _, log = take(
        [
            ("sql", '{"input":"a"}'),
            ("shell", '{"commands":["ls"]}'),
            ("apply_patch", json.dumps(PATCH)),
        ]
    )
    for cut in range(len(log.events)):
        state = ResponseState(log.events[:cut])
        rest = state.close()
        for number, event in enumerate(rest):
            EVENT.validate_python({**event, "sequence_number": number})
        assert state.output == ResponseState([*log.events[:cut], *rest]).output
        for event in rest:
            if event["type"] == "response.output_item.done":
                item = event["item"]
                assert not item.get("input")
                assert not item.get("action", {}).get("commands")


@pytest.mark.parametrize("name", ["f", "sql"])
def test_the_sdk_accepts_a_restart_of_an_endpoint_that_numbers_its_calls(name: str) -> None:
    job = a_job()
    log = RecordingSink()
    log.add(*opening(job))

    def attempt(state: ResponseState) -> Output:
        output = Output(
            log,
            "{}_{}".format,
            index=state.next_index,
            most=1000,
            toolbox=Toolbox({"tools": TOOLS}),
            used=state.call_ids,
        )
        output.take(Call(0, "f:0", name, '{"input":"a"}'))
        return output

    attempt(ResponseState(log.events))
    state = ResponseState(log.events)
    log.add(*state.close(), restarted(job, 2, "worker_lost"))
    output = attempt(state)
    output.end_calls()
    (item,) = output.end(completed=True)
    sdk: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for number, event in enumerate(log.events):
        if event["type"] != RESTARTED:
            sdk.handle_event(EVENT.validate_python({**event, "sequence_number": number}))
    assert "f:0_1" == item["call_id"]


def test_commands_are_bounded_in_number() -> None:
    commands = json.dumps({"commands": [""] * 1000})
    with pytest.raises(TooLong):
        take([("shell", commands)], most=MIN_OTHER_BYTES)


def test_a_tool_that_the_choice_excludes_may_not_be_called() -> None:
    toolbox = Toolbox({"tools": TOOLS, "tool_choice": {"type": "custom", "name": "sql"}})
    output = Output(RecordingSink(), "{}_{}".format, index=0, most=1000, toolbox=toolbox)
    with pytest.raises(NotAllowed):
        output.take(Call(0, "call_0", "shell", "{}"))


SEARCH = {"type": "tool_search", "execution": "client", "description": "Finds tools."}
FOUND = {
    "type": "tool_search_output",
    "call_id": "call_0",
    "execution": "client",
    "tools": [TOOLS[2], {"type": "function", "name": "g"}, TOOLS[0], 7, {"type": "function"}],
}


def test_a_search_of_the_client_brings_tools() -> None:
    log = RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=1000, toolbox=Toolbox({"tools": [SEARCH]}))
    output.take(Call(0, "call_0", "tool_search", '{"query":"x"}'))
    output.end_calls()
    (call,) = output.end(completed=True)
    ITEM.validate_python(call)
    assert ({"query": "x"}, "client") == (call["arguments"], call["execution"])

    arguments = asked(tools=[SEARCH, TOOLS[0]], input=[call, FOUND])
    assert ["tool_search", "f", "crm__f", "crm__note", "g"] == names(arguments)
    said, told = arguments["messages"]
    assert '{"query": "x"}' == said["tool_calls"][0]["function"]["arguments"]
    assert {"found": ["crm__f", "crm__note", "g", "f"]} == json.loads(told["content"])


def test_a_developer_can_add_tools() -> None:
    more = {"type": "additional_tools", "role": "developer", "tools": [TOOLS[1]]}
    arguments = asked(tools=[TOOLS[0]], input=[more, {"role": "user", "content": "hi"}])
    assert ["f", "sql"] == names(arguments)
    assert ["user"] == [message["role"] for message in arguments["messages"]]


def test_a_search_of_a_provider_is_left_out() -> None:
    call: Json = {
        "type": "tool_search_call",
        "arguments": {},
        "execution": "server",
        "call_id": None,
    }
    found = FOUND | {"execution": "server", "call_id": None}
    arguments = asked(tools=[], input=[call, found, {"role": "user", "content": "hi"}])
    assert ["user"] == [message["role"] for message in arguments["messages"]]
    assert ["crm__f", "crm__note", "g", "f"] == names(arguments)


# The worker


async def test_a_custom_call_streams_through_the_worker(harness: Harness) -> None:
    script = 'mode=call name=sql args={"input":"a\\nb"}'
    await harness.execute(script, tools=TOOLS)
    events = await harness.events(harness.only)
    assert "a\nb" == "".join(e["delta"] for e in events if e["type"].endswith("input.delta"))
    response = events[-1]["response"]
    assert ("completed", "a\nb") == (response["status"], response["output"][0]["input"])
    assert NAMES == names(harness.model.calls[0].body)


async def test_a_call_that_does_not_fit_its_tool_is_retried_and_then_fails(
    make_harness: MakeHarness,
) -> None:
    async with make_harness() as harness:
        await harness.execute('mode=call name=shell args={"command":"ls"}', attempts=3, tools=TOOLS)
        response = (await harness.events(harness.only))[-1]["response"]
        assert 3 == len(harness.model.calls)
    assert ("failed", []) == (response["status"], response["output"])
    assert "upstream_malformed" == response["error"]["code"]


async def test_a_second_attempt_can_repair_a_call(harness: Harness) -> None:
    harness.model.script = {"name": "shell", "times": 1}
    await harness.execute('mode=call args={"commands":1}', attempts=2, tools=TOOLS)
    response = (await harness.events(harness.only))[-1]["response"]
    assert ("completed", 2) == (response["status"], response["holdline"]["attempts"])


# The history


def test_calls_and_results_of_earlier_turns_become_messages() -> None:
    calls, _ = take(
        [
            ("sql", '{"input":"a"}'),
            ("crm__f", "{}"),
            ("local_shell", '{"command":["ls"]}'),
            ("shell", '{"commands":["ls"]}'),
            ("apply_patch", json.dumps(PATCH)),
        ]
    )
    done = {"stdout": "b", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
    results = [
        {"type": "custom_tool_call_output", "call_id": "call_0", "output": "one"},
        {"type": "function_call_output", "call_id": "call_1", "output": "two"},
        {"type": "local_shell_call_output", "id": calls[2]["id"], "output": "three"},
        {"type": "shell_call_output", "call_id": "call_3", "output": [done]},
        {
            "type": "apply_patch_call_output",
            "call_id": "call_4",
            "status": "failed",
            "output": "no",
        },
    ]
    said, *told = asked(input=[*calls, *results])["messages"]
    chat_rules.check([said, *told])
    functions = [call["function"] for call in said["tool_calls"]]
    assert ["sql", "crm__f", "local_shell", "shell", "apply_patch"] == [
        f["name"] for f in functions
    ]
    assert [
        {"input": "a"},
        {},
        {"command": ["ls"], "env": {}},
        {"commands": ["ls"]},
        PATCH,
    ] == [json.loads(function["arguments"]) for function in functions]
    assert ["one", "two", "three", json.dumps([done]), "failed\nno"] == [
        message["content"] for message in told
    ]


def test_provider_data_of_any_call_is_sent_back() -> None:
    signed = {"google": {"thought_signature": "QUJD"}}
    log = RecordingSink()
    output = Output(log, "{}_{}".format, index=0, most=1000, toolbox=Toolbox({"tools": TOOLS}))
    output.maker = "m"
    output.take(Call(0, "call_0", "sql", '{"input":"a"}', signed))
    output.take(Call(1, "call_1", "shell", '{"commands":["a"]}', signed))
    output.end_calls()
    (said, *_) = asked(input=output.end(completed=True))["messages"]
    assert [signed, signed] == [call["extra_content"] for call in said["tool_calls"]]


def test_an_item_that_lacks_a_member_is_unsupported() -> None:
    for item in ({"type": "custom_tool_call", "call_id": "c", "name": "x"}, {"type": "shell_call"}):
        with pytest.raises(UnsupportedInput):
            asked(input=[item])


IDS = st.sampled_from(["c1", "c2", "c3"])
WORDS = st.sampled_from(["", "a"])
PARTS = st.lists(
    st.sampled_from(
        [
            {"type": "input_text", "text": "hi"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ]
    ),
    max_size=2,
)
CALLS = st.one_of(
    st.builds(
        lambda id_, given, name: {
            "type": "custom_tool_call",
            "call_id": id_,
            "name": name,
            "input": given,
        },
        IDS,
        st.text(max_size=3),
        st.sampled_from(["sql", "unknown"]),
    ),
    st.builds(
        lambda id_, space: {
            "type": "function_call",
            "call_id": id_,
            "name": "f",
            "arguments": "{",
            "namespace": space,
        },
        IDS,
        st.sampled_from(["", "crm", "unknown"]),
    ),
    st.builds(
        lambda id_: {
            "type": "local_shell_call",
            "id": f"lsh_{id_}",
            "call_id": id_,
            "action": {"type": "exec", "command": ["ls"], "env": {}, "user": None},
        },
        IDS,
    ),
    st.builds(lambda id_: {"type": "shell_call", "call_id": id_, "action": {"commands": []}}, IDS),
    st.builds(lambda id_: {"type": "apply_patch_call", "call_id": id_, "operation": PATCH}, IDS),
)
RESULTS = st.builds(
    lambda kind, id_, output, parts: (
        {
            "type": kind,
            "call_id": id_,
            "status": "completed",
            "output": parts
            if kind in ("custom_tool_call_output", "function_call_output")
            else output,
        }
        | ({"id": f"lsh_{id_}", "call_id": None} if kind.startswith("local") else {})
    ),
    st.sampled_from(sorted(RESULT_TYPES)),
    IDS,
    WORDS,
    WORDS | PARTS,
)
MESSAGES = st.builds(
    lambda role, text: {"type": "message", "role": role, "content": text},
    st.sampled_from(["user", "assistant", "developer"]),
    WORDS,
)


@given(st.lists(st.one_of(CALLS, CALLS, RESULTS, RESULTS, MESSAGES), max_size=14))
def test_messages_of_any_history_satisfy_the_rules_of_servers(items: list[Json]) -> None:
    chat_rules.check(asked(input=items)["messages"])
