"""Tests that each error in a body or message is reported with a code and the field's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.api.client_messages import MESSAGE_TYPES, Ping, ResponseCreate, Resume, parse_message
from server.api.items import stored
from server.api.json_body import parse_json
from server.api.problem import Problem
from server.api.request import Create, params_of, parse_create

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
TOOLS = [{"type": "function", "name": "f"}]
HUGE = {"maximum": 2**64}
BREAKPOINT = {"prompt_cache_breakpoint": {"x": 2**70}}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "42"}
OTHER = {"type": "function", "name": "g"}
AFTER, WRONG, UNKNOWN = "starting_after", "invalid_value", "unknown_parameter"
STEER = {"previous_response_id": "resp_1", "input": "x"}
HOSTILE_NUMBERS: list[Any] = [-2, "5", 1.5, 2**53 + 1, 2**64, None, [], True]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)
fields = st.sampled_from([*Create.__struct_fields__, "response_id", "starting_after"])


def with_nulls(value: Any) -> Any:
    """Returns the value with null fields added to each object and empty ids added to messages."""
    if isinstance(value, dict):
        more = {"detail": None, "generate_summary": None, "status": None, "phase": None}
        told = {name: with_nulls(inner) for name, inner in value.items()}
        return more | told | ({"id": ""} if "role" in value else {})
    return [with_nulls(one) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("body", "nulls"),
    [
        ({"input": [{"role": "user", "content": [IMAGE | {"detail": "low"}]}]}, {}),
        (
            {"input": [CALL, {"type": "function_call_output", "call_id": "c", "output": [IMAGE]}]},
            {},
        ),
        ({"input": [{"type": "reasoning", "summary": []}, {"role": "user", "content": "x"}]}, {}),
        ({"input": "x", "reasoning": {"effort": "low"}}, {}),
        (
            {"input": "x", "text": {"verbosity": "low"}},
            {"text": {"verbosity": "low", "format": None}},
        ),
        (
            {"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "x"}]}]},
            {
                "input": [
                    {
                        "role": "assistant",
                        "id": "",
                        "content": [
                            {
                                "type": "output_text",
                                "text": "x",
                                "annotations": None,
                                "logprobs": None,
                            }
                        ],
                    }
                ]
            },
        ),
        ({"input": "x"}, {"stream_options": {"include_obfuscation": None}, "metadata": None}),
        (
            {"input": [{"type": "reasoning", "summary": []}, {"role": "user", "content": "x"}]},
            {"input": [{"type": "reasoning", "summary": None}, {"role": "user", "content": "x"}]},
        ),
    ],
)
def test_null_equals_an_absent_field(body: dict[str, Any], nulls: dict[str, Any]) -> None:
    told = body | nulls if nulls else {name: with_nulls(value) for name, value in body.items()}
    assert parse_create(body) == parse_create(told)
    kept = stored(parse_create(told).items, lambda prefix, index: f"{prefix}_{index}")
    assert kept == stored(parse_create(body).items, lambda prefix, index: f"{prefix}_{index}")


def test_nulls_inside_of_schemas_are_kept() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": ["x", None], "default": None}}}
    tool = {"type": "function", "name": "f", "parameters": schema}
    shape = {"type": "json_schema", "name": "s", "schema": schema}
    made = params_of(parse_create({"input": "x", "tools": [tool], "text": {"format": shape}}), "m")
    assert schema == made["tools"][0]["parameters"] == made["text"]["format"]["schema"]
    extra = {"google": {"signature": None}}
    asked = parse_create({"input": [CALL | {"extra_content": extra}]})
    assert (
        extra == stored(asked.items, lambda prefix, index: f"{prefix}_{index}")[0]["extra_content"]
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"generate_summary": "concise"}, "concise"),
        ({"generate_summary": "concise", "summary": None}, "concise"),
        ({"generate_summary": "concise", "summary": "detailed"}, "detailed"),
    ],
)
def test_generate_summary_is_accepted_as_an_alias_of_summary(
    given: dict[str, Any], kept: str
) -> None:
    made = params_of(parse_create({"input": "x", "reasoning": given}), "m")
    assert {"effort": None, "summary": kept} == made["reasoning"]


def test_an_unknown_reasoning_effort_is_passed_on() -> None:
    made = params_of(parse_create({"input": "x", "reasoning": {"effort": "max"}}), "m")
    assert "max" == made["reasoning"]["effort"]


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({"input": 5}, "input", "invalid_value"),
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": [{}]}, "input[0].role", "missing_required_parameter"),
        ({"input": [{"role": "user"}]}, "input[0].content", "missing_required_parameter"),
        ({"input": [{"role": "king", "content": "x"}]}, "input[0].role", "invalid_value"),
        ({"input": [{"role": "user", "content": 5}]}, "input[0].content", "invalid_value"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].image_url",
            "missing_required_parameter",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0].type",
            "invalid_value",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}
                ]
            },
            "input[0].content[0].image_url",
            "invalid_value",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "filename": "f"}]}]},
            "input[0].content[0].file_data",
            "missing_required_parameter",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text"}]}]},
            "input[0].content[0].text",
            "missing_required_parameter",
        ),
        ({"input": [{"type": "web search"}]}, "input[0].type", "invalid_value"),
        ({"input": [{"type": 5}]}, "input[0].type", "invalid_value"),
        ({"input": [{"type": "web_search_call", "id": 5}]}, "input[0].id", "invalid_value"),
        (
            {"input": [{"type": "custom_tool_call", "call_id": "c", "id": []}]},
            "input[0].id",
            "invalid_value",
        ),
        (
            {"input": [{"type": "additional_tools", "tools": TOOLS * 1000}] * 2},
            "input[1].tools",
            "invalid_value",
        ),
        ({"input": [{"type": "x", "call_id": 2**70}]}, "input[0].call_id", "invalid_value"),
        ({"input": [{"type": "x", "more": [{"a": 2**70}]}]}, "input[0].more[0].a", WRONG),
        *(
            (
                {"input": [CALL, {**RESULT, "output": [part | BREAKPOINT]}]},
                "input[1].output[0].prompt_cache_breakpoint.x",
                "invalid_value",
            )
            for part in (
                {"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": "https://x.example/y"},
                {"type": "input_file", "file_data": "x"},
            )
        ),
        ({"input": [CALL, {**RESULT, "caller": {"x": 2**70}}]}, "input[1].caller.x", WRONG),
        ({"input": [{**CALL, "caller": {"x": 2**70}}, RESULT]}, "input[0].caller.x", WRONG),
        (
            {"input": [{"type": "additional_tools", "tools": [{"type": "function"}]}]},
            "input[0].tools[0].name",
            "missing_required_parameter",
        ),
        ({"input": [{"type": "tool_search_output", "tools": [5]}]}, "input[0].tools[0]", WRONG),
        *(
            ({"input": [{"type": kind}]}, f"input[0].{name}", "missing_required_parameter")
            for kind, name in (
                ("custom_tool_call", "call_id"),
                ("custom_tool_call_output", "call_id"),
                ("local_shell_call", "call_id"),
                ("local_shell_call_output", "output"),
                ("shell_call", "call_id"),
                ("shell_call_output", "call_id"),
                ("apply_patch_call", "call_id"),
                ("apply_patch_call_output", "call_id"),
            )
        ),
        (
            {"input": [{"type": "shell_call", "call_id": "c", "action": {"commands": "ls"}}]},
            "input[0].action.commands",
            "invalid_value",
        ),
        (
            {"input": [{"type": "local_shell_call_output", "output": ""}]},
            "input[0].call_id",
            "missing_required_parameter",
        ),
        ({"input": [{"type": "function_call"}]}, "input[0].call_id", "missing_required_parameter"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": 5}]},
            "input[0].output",
            "invalid_value",
        ),
        ({"input": [{"type": "item_reference"}]}, "input[0].id", "missing_required_parameter"),
        ({"model": 5}, "model", "invalid_value"),
        ({"model": ""}, "model", "invalid_value"),
        ({"instructions": []}, "instructions", "invalid_value"),
        ({"previous_response_id": 1}, "previous_response_id", "invalid_value"),
        ({"previous_response_id": "x" * 129}, "previous_response_id", "invalid_value"),
        ({"temperature": 2.1}, "temperature", "invalid_value"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"top_p": 1.5}, "top_p", "invalid_value"),
        ({"max_output_tokens": 0}, "max_output_tokens", "invalid_value"),
        ({"max_output_tokens": 1.5}, "max_output_tokens", "invalid_value"),
        ({"metadata": []}, "metadata", "invalid_value"),
        ({"metadata": {"x": "", "a": 1, "b": ""}}, "metadata.a", "invalid_value"),
        ({"metadata": {"x": "", "a" * 65: "x"}}, f"metadata.{'a' * 64}", "invalid_value"),
        ({"metadata": {"a": "x" * 513}}, "metadata.a", "invalid_value"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "invalid_value"),
        ({"store": "yes"}, "store", "invalid_value"),
        ({"stream": 1}, "stream", "invalid_value"),
        ({"background": "no"}, "background", "invalid_value"),
        ({"user": {}}, "user", "invalid_value"),
        ({"idempotency_key": ""}, "idempotency_key", "invalid_value"),
        ({"idempotency_key": "k" * 256}, "idempotency_key", "invalid_value"),
        ({"temprature": 1}, "temprature", "unknown_parameter"),
        ({"stream_id": "lane"}, "stream_id", "unknown_parameter"),
        ({"tools": [{}]}, "tools[0].type", "missing_required_parameter"),
        ({"tools": [{"type": "web search"}]}, "tools[0].type", "invalid_value"),
        ({"tools": [{"type": "custom"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "mcp", "headers": {"a": 2**70}}]}, "tools[0].headers.a", WRONG),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]},
            "tools[0].tools[0].type",
            "invalid_value",
        ),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": TOOLS * 600}] * 2},
            "tools",
            "invalid_value",
        ),
        ({"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name", "invalid_value"),
        ({"tools": TOOLS * 129}, "tools", "invalid_value"),
        ({"tool_choice": "perhaps"}, "tool_choice", "invalid_value"),
        ({"input": "x", "tool_choice": "required"}, "tool_choice", "invalid_value"),
        (
            {"input": "x", "tools": TOOLS, "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice.name",
            "invalid_value",
        ),
        (
            {
                "input": "x",
                "tools": TOOLS,
                "tool_choice": {"type": "allowed_tools", "tools": [*TOOLS, OTHER]},
            },
            "tool_choice.tools[1].name",
            "invalid_value",
        ),
        *(
            ({"input": "x", "tools": TOOLS, "tool_choice": choice}, f"tool_choice{place}", WRONG)
            for choice, place in (
                ({"type": "custom", "name": "f"}, ".name"),
                ({"type": "shell"}, ".type"),
                ({"type": "apply patch"}, ".type"),
                ({"type": "allowed_tools", "mode": "none", "tools": TOOLS}, ".mode"),
                (
                    {"type": "allowed_tools", "tools": [{"type": "namespace", "name": "n"}]},
                    ".tools[0].name",
                ),
            )
        ),
        ({"reasoning": {"effort": "x" * 33}}, "reasoning.effort", "invalid_value"),
        ({"reasoning": {"budget": 2**70}}, "reasoning.budget", "invalid_value"),
        ({"reasoning": "high"}, "reasoning", "invalid_value"),
        ({"image": []}, "image", "invalid_value"),
        ({"stream_options": {"more": 1}}, "stream_options.more", "unknown_parameter"),
        (
            {"background_options": {"completion_window": "2h"}},
            "background_options.completion_window",
            "invalid_value",
        ),
        ({"prompt_cache_options": {"prewarm": 1}}, "prompt_cache_options.prewarm", WRONG),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_value"),
        (
            {"text": {"format": {"type": "json_schema", "name": "n"}}},
            "text.format.schema",
            "missing_required_parameter",
        ),
        (
            {"input": "x", "tools": [{**TOOLS[0], "parameters": HUGE}]},
            "tools[0].parameters.maximum",
            "invalid_value",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": HUGE}}},
            "text.format.schema.maximum",
            "invalid_value",
        ),
        (
            {
                "input": [
                    {
                        "type": "function_call",
                        "call_id": "c",
                        "name": "f",
                        "arguments": "{}",
                        "extra_content": {"a": HUGE},
                    }
                ]
            },
            "input[0].extra_content.a.maximum",
            "invalid_value",
        ),
        ({"truncation": "always"}, "truncation", "invalid_value"),
        ({"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"presence_penalty": 3}, "presence_penalty", "invalid_value"),
        ({"max_tool_calls": 0}, "max_tool_calls", "invalid_value"),
        ({"max_tool_calls": 2**64}, "max_tool_calls", "invalid_value"),
        ({"include": ["no such"]}, "include[0]", "invalid_value"),
        ({"service_tier": "slow"}, "service_tier", "invalid_value"),
        ({"prompt": {}}, "prompt.id", "missing_required_parameter"),
        ({"prompt": {"id": "p", "variables": {"v": 5}}}, "prompt.variables.v", "invalid_value"),
        (
            {"prompt": {"id": "p", "variables": {"a": "", "v": {"type": "input_text"}}}},
            "prompt.variables.v.text",
            "missing_required_parameter",
        ),
    ],
)
def test_an_invalid_body_is_refused_by_field_and_code(
    body: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(Problem) as refused:
        parse_create(body)

    assert (400, param, code) == (refused.value.status, refused.value.param, refused.value.code)
    assert "invalid_request_error" == refused.value.type


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ({}, "type", "missing_required_parameter"),
        ({"type": 5}, "type", "missing_required_parameter"),
        ({"type": "response.destroy"}, "type", "unknown_type"),
        ({"type": "response.create", "stream_id": ""}, "stream_id", "invalid_stream_id"),
        ({"type": "response.create", "stream_id": "a b"}, "stream_id", "invalid_stream_id"),
        ({"type": "response.create", "stream_id": "a\n"}, "stream_id", "invalid_stream_id"),
        ({"type": "response.create", "stream_id": "x" * 257}, "stream_id", "invalid_stream_id"),
        ({"type": "response.create", "background": True}, "background", "unsupported_parameter"),
        ({"type": "response.create", "response_id": "x"}, "response_id", "unknown_parameter"),
        ({"type": "response.steer", **STEER, "model": "m"}, "model", UNKNOWN),
        ({"type": "response.steer", **STEER, "holdline": {"a": 1}}, "holdline.a", UNKNOWN),
        ({"type": "response.create", "text": {"a": 1}}, "text.a", UNKNOWN),
        ({"type": "response.cancel"}, "response_id", "missing_required_parameter"),
        ({"type": "response.cancel", "response_id": 5}, "response_id", "invalid_value"),
        ({"type": "holdline:resume"}, "response_id", "missing_required_parameter"),
        *(
            ({"type": "holdline:resume", "response_id": "x", "starting_after": a}, AFTER, WRONG)
            for a in HOSTILE_NUMBERS
        ),
        ({"type": "holdline:ping", "id": []}, "id", "invalid_value"),
        ({"type": "holdline:auth"}, "token", "missing_required_parameter"),
        ({"type": "holdline:auth", "token": "x" * 20_000}, "token", "invalid_value"),
    ],
)
def test_an_invalid_message_is_refused_by_field_and_code(
    message: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(Problem) as refused:
        parse_message(message)

    assert (400, param, code) == (refused.value.status, refused.value.param, refused.value.code)


def test_a_hosted_tool_is_kept_as_the_client_sent_it() -> None:
    tools: list[dict[str, Any]] = [
        {"type": "mcp", "server_label": "m", "headers": None, "more": {"a": [1, None]}},
        {"type": "function", "name": "f", "defer_loading": True, "output_schema": {"const": None}},
        {"type": "namespace", "name": "n", "tools": [OTHER, {"type": "custom", "name": "c"}]},
    ]
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}, OTHER]}
    body = {"input": "x", "tools": tools, "tool_choice": choice}

    params = params_of(parse_create(body), "m")

    given = {"description": None, "parameters": None, "strict": None}
    assert [tools[0], given | tools[1], tools[2]] == params["tools"]
    assert choice == params["tool_choice"]


def test_unknown_members_of_reasoning_are_passed_on() -> None:
    given = {"effort": "max", "mode": "pro", "context": "all_turns", "budget": {"tokens": 5}}
    made = params_of(parse_create({"input": "x", "reasoning": given}), "m")
    assert given | {"summary": None} == made["reasoning"]


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("auto", "default"),
        ("default", "default"),
        ("flex", "flex"),
        ("scale", "default"),
        ("priority", "priority"),
        ("fast", "priority"),
        ("ultrafast", "priority"),
    ],
)
def test_each_service_tier_has_a_place_in_the_queue(asked: str, shown: str) -> None:
    made = params_of(parse_create({"input": "x", "service_tier": asked}), "m")
    assert shown == made["service_tier"]


def test_hints_without_effect_are_not_stored() -> None:
    hints = {
        "client_metadata": {"turn_id": "t", "deep": {"a": [1]}},
        "background_options": {"completion_window": "soonest", "continuation_id": "c"},
        "stream_options": {"include_obfuscation": True},
    }
    assert {"model": "m"} == params_of(parse_create({"input": "x", **hints}), "m")


def test_items_of_other_types_get_new_ids_unless_another_item_names_them() -> None:
    asked = {"type": "mcp_approval_request", "id": "mcpr_up", "server_label": "s", "name": "n"}
    answer = {"type": "mcp_approval_response", "approval_request_id": "mcpr_up", "approve": True}
    drawn = {"type": "image_generation_call", "id": "ig_up", "status": "completed", "result": None}
    shell = {"type": "local_shell_call", "id": "lsh_up", "call_id": "c", "action": {"command": []}}
    said = {"type": "local_shell_call_output", "id": "lsh_up", "output": "{}"}
    odd = {"type": "new_call", "x": {"y": None}}

    create = parse_create({"input": [asked, answer, drawn, shell, said, odd]})
    items = stored(create.items, "{}_{}".format)

    assert [
        asked,
        {**answer, "id": "mcpa_1"},
        {**drawn, "id": "ig_2"},
        {**shell, "id": "lsh_3"},
        {**said, "id": "lsho_4", "call_id": "c"},
        {**odd, "id": "item_5"},
    ] == items


def outcome(parse: Callable[[Any], Any], given: object) -> Any:
    """Returns the result or the problem; any other exception fails the test."""
    try:
        return parse(given)
    except Problem as problem:
        json.dumps(problem.error).encode()
        return problem


@given(st.dictionaries(fields, anything, max_size=4))
def test_any_body_becomes_a_request_or_raises_a_problem(body: dict[str, Any]) -> None:
    result = outcome(parse_create, body)

    assert isinstance(result, Create) or 400 == result.status


@pytest.mark.parametrize("name", Create.__struct_fields__)
def test_an_accepted_number_can_be_stored(name: str) -> None:
    for number in (2**64, -(2**64), 10**400):
        result = outcome(parse_create, {"input": "x", name: number})
        assert isinstance(result, Problem) or msgspec.msgpack.encode(result)


@given(st.sampled_from(sorted(MESSAGE_TYPES)), st.dictionaries(fields, anything, max_size=3))
def test_any_message_is_parsed_or_raises_a_problem(kind: str, body: dict[str, Any]) -> None:
    result = outcome(parse_message, {**body, "type": kind})

    assert isinstance(result, MESSAGE_TYPES[kind]) or 400 == result.status


@given(st.binary(max_size=60) | st.text(max_size=60) | anything.map(json.dumps))
def test_any_bytes_become_an_object_or_raise_a_problem(data: bytes | str) -> None:
    result = outcome(parse_json, data)

    assert isinstance(result, dict) or "invalid_json" == result.code


def test_a_string_input_becomes_one_user_message() -> None:
    items = stored(Create(input="Why?").items, "{}_{}".format)

    assert [
        {
            "id": "msg_0",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": "Why?"}],
        }
    ] == items


def test_output_items_are_accepted_as_input() -> None:
    ours = {
        "id": "msg_9",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "So.", "annotations": [], "logprobs": []}],
    }

    create = parse_create({"input": [ours, {"role": "user", "content": "And?"}]})
    items = stored(create.items, "{}_{}".format)

    assert ["output_text", "input_text"] == [item["content"][0]["type"] for item in items]
    assert ["So.", "And?"] == [item["content"][0]["text"] for item in items]


def test_items_of_every_type_are_stored_with_generated_ids() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_x"}
    came = {"type": "function_call_output", "call_id": "c", "output": "5"}
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    file = {"type": "input_file", "file_data": "AA==", "filename": "a.pdf"}
    thought = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}
    asked = {"role": "user", "content": [image, file]}
    reference = {"type": "item_reference", "id": "msg_1"}

    create = parse_create({"input": [thought, call, came, asked, reference, {"id": "fc_2"}]})
    items = stored(create.items, "{}_{}".format)

    assert ["rs_0", "fc_1", "fco_2", "msg_3", "msg_1", "fc_2"] == [item["id"] for item in items]
    assert {**call, "id": "fc_1", "status": "completed"} == items[1]
    assert {**came, "id": "fco_2", "status": "completed"} == items[2]
    assert [{**image, "detail": "auto"}, file] == items[3]["content"]
    assert 2 * ["item_reference"] == [item["type"] for item in items[4:]]


def test_parameters_are_stored_as_plain_json() -> None:
    create = parse_create(
        {
            "input": "x",
            "tools": TOOLS,
            "tool_choice": {"type": "allowed_tools", "tools": TOOLS},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
            "reasoning": {"effort": "low"},
        }
    )

    params = params_of(create, "default")

    tool = {"type": "function", "name": "f", "description": None, "parameters": None}
    assert [{**tool, "strict": None}] == params["tools"]
    assert {"type": "allowed_tools", "mode": "auto", "tools": TOOLS} == params["tool_choice"]
    schema = {"type": "json_schema", "name": "n", "schema": {}}
    shown = {**schema, "description": None, "strict": None}
    assert {"format": shown, "verbosity": None} == params["text"]
    assert {"effort": "low", "summary": None} == params["reasoning"]


def test_only_parameters_that_were_set_are_stored() -> None:
    create = parse_create(
        {"input": "x", "temperature": 0, "stream": True, "idempotency_key": "k", "store": False}
    )

    assert {"model": "default", "temperature": 0.0, "store": False} == params_of(create, "default")


def test_a_request_without_any_model_is_refused() -> None:
    assert "mine" == params_of(Create(input="x", model="mine"), "default")["model"]
    with pytest.raises(Problem) as refused:
        params_of(Create(input="x"), "")

    assert ("model", "missing_required_parameter") == (refused.value.param, refused.value.code)


@pytest.mark.parametrize("text", ["\0", "\u202e", "👩‍👩‍👧‍👦" * 1000, "\ufffe\uffff"])
def test_any_text_that_json_can_carry_is_accepted_unchanged(text: str) -> None:
    body = parse_json(json.dumps({"input": text}))

    assert text == parse_create(body).input


def test_messages_are_told_apart_by_their_type() -> None:
    assert ResponseCreate(input="x", stream_id="a") == parse_message(
        {"type": "response.create", "input": "x", "stream_id": "a"}
    )
    assert Resume("resp_1", 7) == parse_message(
        {"type": "holdline:resume", "response_id": "resp_1", "starting_after": 7}
    )
    assert Ping(5) == parse_message({"type": "holdline:ping", "id": 5})
