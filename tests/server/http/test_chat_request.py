"""Tests the translation of chat completion bodies to response requests."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import Limited
from server.api.problem import Problem
from server.api.refusals import from_error
from server.api.request import parse_create
from server.http.chat_request import NEUTRAL, Translation

HI = [{"role": "user", "content": "Hi."}]
FUNCTION = {"name": "f", "parameters": {"type": "object"}, "strict": True}


def body(**chat: Any) -> dict[str, Any]:
    """Returns the translated body, after checking that it is a valid request."""
    made = Translation({"messages": HI, "model": "m", **chat}).body
    parse_create(made)
    return made


def refused(chat: dict[str, Any]) -> tuple[str, str | None]:
    """Returns the refusal's code and its field, named as in the chat completion body."""
    with pytest.raises(Problem) as caught:
        asked = Translation(chat)
        try:
            parse_create(asked.body)
        except Problem as problem:
            raise asked.named(problem) from None
    wrong = caught.value
    if wrong.param is not None:
        assert f"'{wrong.param}'" in wrong.message, "the words name what the caller knows"
    return wrong.code, wrong.param


def test_chat_fields_without_effect_are_accepted() -> None:
    named = [{"role": role, "content": "x", "name": "bob"} for role in ("system", "user")]
    assert body(messages=HI * 2)["input"][0].keys() == body(messages=named)["input"][0].keys()
    options = {"include_usage": True, "continuous_usage_stats": True, "other": None}
    assert Translation({"messages": HI, "stream_options": options}).usage
    function = {"name": "f", "arguments": None}
    calls = [{"id": "c", "type": None, "function": function}]
    asked = [*HI, {"role": "assistant", "content": None, "tool_calls": calls}]
    assert "" == body(messages=asked)["input"][1]["arguments"]
    assert {"effort": "max"} == body(reasoning_effort="max")["reasoning"]


def test_provider_data_in_a_call_is_kept() -> None:
    extra = {"google": {"thought_signature": "QUJD"}}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = {"role": "assistant", "content": None, "tool_calls": [call | {"extra_content": extra}]}
    asked = [*HI, said, {"role": "tool", "tool_call_id": "c", "content": "1"}]
    assert extra == body(messages=asked)["input"][1]["extra_content"]


def test_a_conversation_with_tools_becomes_items() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Very."}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
                {
                    "type": "image_url",
                    "image_url": {"url": "data:image/png;base64,AA", "detail": "low"},
                },
                {"type": "file", "file": {"file_data": "data:x;base64,AA", "filename": "a.pdf"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "refusal": None,
            "annotations": [],
            "reasoning_content": "Hm.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "[]"}},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "1", "name": "f"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
        {"role": "assistant", "content": "So.", "refusal": "But no."},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "And?"},
    ]
    items = body(messages=messages)["input"]

    assert [
        ("message", "system"),
        ("message", "developer"),
        ("message", "user"),
        ("reasoning", None),
        ("function_call", None),
        ("function_call", None),
        ("function_call_output", None),
        ("function_call_output", None),
        ("message", "assistant"),
        ("message", "assistant"),
        ("message", "user"),
    ] == [(item["type"], item.get("role")) for item in items]
    assert [
        {"type": "input_text", "text": "What is this?"},
        {"type": "input_image", "image_url": "https://x.example/a.png"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA", "detail": "low"},
        {"type": "input_file", "file_data": "data:x;base64,AA", "filename": "a.pdf"},
    ] == items[2]["content"]
    assert {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "[]"} == items[5]
    assert {"type": "function_call_output", "call_id": "c1", "output": "1"} == items[6]
    assert ["output_text", "refusal"] == [part["type"] for part in items[8]["content"]]


@pytest.mark.parametrize("content", [{}, {"content": None}])
def test_missing_content_of_answers_and_results_becomes_empty(content: dict[str, None]) -> None:
    messages = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", **content},
        {"role": "assistant", **content, "tool_calls": [{"id": "c1", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "c1", **content},
    ]
    items = body(messages=messages)["input"]

    assert {"type": "message", "role": "assistant", "content": ""} == items[1]
    assert ["function_call", "function_call_output"] == [item["type"] for item in items[2:]]
    assert "" == items[3]["output"]


@pytest.mark.parametrize(
    ("chat", "response"),
    [
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"stop": "\n", "seed": 7}, {"holdline_stop": ["\n"], "holdline_seed": 7}),
        ({"stop": ["a", "b"]}, {"holdline_stop": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"max_tokens": 5, "max_completion_tokens": 6}, {"max_output_tokens": 6}),
        ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
        ({"verbosity": "high"}, {"text": {"verbosity": "high"}}),
        ({"response_format": {"type": "text"}}, {"text": {"format": {"type": "text"}}}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {}},
                }
            },
            {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}}}},
        ),
        (
            {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"},
            {"tools": [{"type": "function", **FUNCTION}], "tool_choice": "required"},
        ),
        (
            {
                "tools": [{"type": "function", "function": FUNCTION}],
                "tool_choice": {"type": "function", "function": {"name": "f"}},
            },
            {
                "tools": [{"type": "function", **FUNCTION}],
                "tool_choice": {"type": "function", "name": "f"},
            },
        ),
        (
            {
                "tools": [{"type": "function", "function": FUNCTION}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "auto",
                        "tools": [{"type": "function", "function": {"name": "f"}}],
                    },
                },
            },
            {
                "tools": [{"type": "function", **FUNCTION}],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "f"}],
                },
            },
        ),
        (
            {"logprobs": True, "top_logprobs": 2},
            {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
        ),
        ({"logprobs": False, "n": 1, "stop": None, "logit_bias": {}}, {}),
        (
            {"temperature": 0.5, "top_p": 1, "user": "u", "store": False, "metadata": {"a": "b"}},
            {"temperature": 0.5, "top_p": 1, "user": "u", "store": False, "metadata": {"a": "b"}},
        ),
        ({"service_tier": "flex", "parallel_tool_calls": False}, None),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
    ],
)
def test_chat_parameters_map_to_response_parameters(
    chat: dict[str, Any], response: dict[str, Any] | None
) -> None:
    made = body(**chat)
    expected = chat if response is None else response

    assert {"model": "m", **expected} == {k: v for k, v in made.items() if k != "input"}


@pytest.mark.parametrize(
    ("chat", "code", "param"),
    [
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "Hi."}, "invalid_value", "messages"),
        ({"messages": ["Hi."]}, "invalid_value", "messages[0]"),
        ({"messages": [{}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": "function"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": "x", "audio": {}}]},
            "unsupported_parameter",
            "messages[0].audio",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "unsupported_parameter",
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}
                ]
            },
            "unsupported_parameter",
            "messages[0].content[0].file.file_id",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"logit_bias": {"5": 1}}, "unsupported_parameter", "logit_bias"),
        ({"nonsense": 7}, "unknown_parameter", "nonsense"),
        ({"input": "Hi."}, "unknown_parameter", "input"),
        ({"temperature": 9}, "invalid_value", "temperature"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": 0}, "invalid_value", "max_completion_tokens"),
        ({"reasoning_effort": ""}, "invalid_value", "reasoning_effort"),
        (
            {
                "messages": [
                    {
                        "role": "tool",
                        "tool_call_id": "c",
                        "content": [
                            {"type": "text", "text": "x"},
                            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                        ],
                    }
                ]
            },
            "unsupported_parameter",
            "messages[0].content[1].type",
        ),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"tools": [{"type": "custom"}]}, "unsupported_parameter", "tools[0].type"),
        ({"tool_choice": 5}, "invalid_value", "tool_choice"),
        ({"tools": {}}, "invalid_value", "tools"),
        ({"stop": False}, "invalid_value", "stop"),
        ({"logprobs": "no"}, "invalid_value", "logprobs"),
        (
            {"stream_options": {"include_usage": "no"}},
            "invalid_value",
            "stream_options.include_usage",
        ),
        ({"stream_options": {"x": 1}}, "unsupported_parameter", "stream_options.x"),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "a b", "schema": {}},
                }
            },
            "invalid_value",
            "response_format.json_schema.name",
        ),
    ],
)
def test_errors_name_the_fields_of_the_chat_body(
    chat: dict[str, Any], code: str, param: str
) -> None:
    assert (code, param) == refused({"messages": HI, **chat})


def test_errors_name_the_index_of_the_chat_message() -> None:
    calls = [{"id": "c", "function": {"name": "f", "arguments": "{}"}}] * 2
    messages = [
        {"role": "assistant", "tool_calls": calls},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "ftp://x"}}]},
    ]

    code, param = refused({"messages": messages})
    assert ("invalid_value", True) == (code, (param or "").startswith("messages[1].content[0]"))


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
FILE = {"type": "file", "file": {"file_data": "AA", "filename": "a.pdf"}}
CHOICE = {"type": "function", "function": {"name": "f"}}
EVERYTHING: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE, FILE]},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "x"}],
            "refusal": "x",
            "reasoning": "x",
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]},
    ],
    "max_tokens": 5,
    "reasoning_effort": "low",
    "verbosity": "low",
    "stop": ["x"],
    "seed": 1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "tools": [{"type": "function", "function": {"name": "f", "description": "x"}}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [CHOICE]},
    },
}


def places(value: Any, place: str = "") -> Iterator[str]:
    """Yields the paths of all values in a body, except those of objects and lists."""
    match value:
        case dict():
            for name, inner in value.items():
                yield from places(inner, f"{place}.{name}" if place else name)
        case list():
            for index, inner in enumerate(value):
                yield from places(inner, f"{place}[{index}]")
        case _:
            yield place


@pytest.mark.parametrize("place", list(places(EVERYTHING)))
def test_errors_name_the_path_of_the_invalid_value_in_the_chat_body(place: str) -> None:
    chat = copy.deepcopy(EVERYTHING)
    *path, last = [int(one) if one.isdigit() else one for one in re.findall(r"\w+", place)]
    holder: Any = chat
    for name in path:
        holder = holder[name]
    holder[last] = [[5]]
    _, param = refused(chat)
    assert place.startswith(param or "nothing")
    assert len(param or "") > len(place) / 2 or place.startswith("tool_choice")


def test_a_refusal_in_chat_form_keeps_its_headers() -> None:
    limited = from_error(Limited("input_tokens", 5, 0))
    named = Translation({"messages": HI}).named(limited)
    assert ("messages", {"X-RateLimit-Limit-Input-Tokens": "5"}) == (named.param, named.headers)


def test_the_errors_of_types_and_results_name_valid_values() -> None:
    call = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
    asked = [*HI, {"role": "assistant", "content": None, "tool_calls": [call]}]
    for chat, advice in (
        ({"tools": [{"type": "custom"}]}, "'tools[0].type' must be function"),
        ({"messages": asked}, "'messages[1].tool_calls[0].type' must be function"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "'messages[0].content[0].type' must be text or image_url or file",
        ),
        (
            {"messages": [{"role": "tool", "tool_call_id": "c", "content": "x"}, *HI]},
            "No earlier tool call has the id 'c' of 'messages[0].tool_call_id'",
        ),
    ):
        with pytest.raises(Problem, match=re.escape(advice)):
            Translation({"messages": HI, **chat})


hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "function", "tool_calls", "name"]),
            inner | st.sampled_from(["user", "assistant", "tool", "function", "image_url"]),
            max_size=4,
        )
    ),
    max_leaves=10,
)
names = st.sampled_from(
    ["messages", "tools", "tool_choice", "response_format", "stream_options", *NEUTRAL]
)


@given(st.dictionaries(names, hostile, max_size=4))
def test_any_chat_body_becomes_a_request_or_raises_a_problem(chat: dict[str, Any]) -> None:
    with contextlib.suppress(Problem):
        parse_create(Translation(chat).body)


@pytest.mark.parametrize(
    "echoed",
    [
        {"provider_specific_fields": {"refusal": None}},  # sent by LiteLLM
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}]},
        {"parsed": {"a": 1}, "audio": None, "function_call": None},  # added by the SDK's `parse`
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},  # sent by OpenRouter
        {"context": {"citations": []}},  # sent by Azure
        {"images": []},
        {"extra_content": {"google": {"thought_signature": "QUJD"}}},  # sent by Gemini
    ],
)
def test_model_messages_with_fields_added_by_client_libraries_are_accepted(
    echoed: dict[str, Any],
) -> None:
    function = {"name": "f", "arguments": "{}"}
    call = {"id": "c", "type": "function", "function": function, "index": 0}
    said = {"role": "assistant", "content": "So.", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "1"}
    messages = [*HI, said, result]
    assert body(messages=messages) == body(messages=[*HI, said | echoed, result])


def test_reasoning_is_returned_in_the_field_it_came_in() -> None:
    for field in ("reasoning", "reasoning_content"):
        [thought, _] = body(messages=[{"role": "assistant", "content": "So.", field: "Hm."}])[
            "input"
        ]
        assert field == thought["holdline_field"]
        assert [{"type": "reasoning_text", "text": "Hm."}] == thought["content"]


def test_unsupported_fields_of_model_messages_are_refused() -> None:
    with pytest.raises(Problem, match="prefix"):
        body(messages=[*HI, {"role": "assistant", "content": "So", "prefix": True}])
