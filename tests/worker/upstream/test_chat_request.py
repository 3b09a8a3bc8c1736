from __future__ import annotations

from typing import Any

import pytest

from jobs.record import Job
from tests.jobs.factories import message_done
from worker.upstream.chat.messages import UnsupportedInput
from worker.upstream.chat.request import LIMIT, OPENAI_LIMIT, characters, completion, limit_name
from worker.upstream.responses.request import request
from worker.upstream.usage import counted, estimated, merged


def arguments(context: list[dict[str, Any]] | None = None, **params: Any) -> dict[str, Any]:
    job = Job("resp_x", "me", 0, {"model": "m", **params}, context or [])
    return completion(job, default_model="default")


def messages(context: list[dict[str, Any]] | None = None, **params: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = arguments(context, **params)["messages"]
    return found


def test_a_string_input_becomes_a_user_message() -> None:
    assert [{"role": "user", "content": "hi"}] == messages(input="hi")


def test_instructions_context_and_input_are_sent_in_this_order() -> None:
    context = [
        {"role": "user", "content": "one"},
        message_done("msg_1", 0, "two", "completed")[-1]["item"],
    ]
    assert [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ] == messages(context, instructions="be kind", input="three")


def test_input_messages_with_parts_and_all_roles_are_translated() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    assert [
        {"role": "system", "content": "ab"},
        {"role": "system", "content": "c"},
        {"role": "user", "content": "d"},
    ] == messages(
        input=[
            {"type": "message", "role": "developer", "content": parts},
            {"role": "system", "content": "c"},
            {"role": "user", "content": "d"},
        ]
    )


def test_calls_of_hosted_tools_are_omitted() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed"}
    asked = {"role": "user", "content": "hi"}
    assert [asked] == messages([search], input="hi") == messages(input=[search, asked])


def test_an_empty_assistant_message_is_omitted() -> None:
    nothing = message_done("msg_1", 0, "", "incomplete")[-1]["item"]
    assert [{"role": "user", "content": "hi"}] == messages([nothing], input="hi")


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "tool", "content": "secret"},
        {"role": "user", "content": [{"type": "input_audio", "data": "secret"}]},
    ],
)
def test_unsupported_items_are_rejected_without_quoting_their_content(item: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedInput) as caught:
        messages(input=[item])
    assert "secret" not in str(caught.value)


def test_only_parameters_that_were_set_are_sent() -> None:
    assert {"model", "messages", "stream", "stream_options"} == set(arguments(input="hi"))
    assert {"temperature": 0, "top_p": 0.5, "max_tokens": 9} == {
        name: value
        for name, value in arguments(
            input="hi",
            temperature=0,
            top_p=0.5,
            max_output_tokens=9,
            metadata={"a": "b"},
            store=True,
        ).items()
        if name not in ("model", "messages", "stream", "stream_options")
    }


def test_the_output_limit_is_sent_to_openai_as_max_completion_tokens() -> None:
    job = Job("resp_x", "me", 0, {"input": "hi", "max_output_tokens": 9})
    sent = completion(job, default_model="default", limit=OPENAI_LIMIT)
    assert ("default", 9) == (sent["model"], sent["max_completion_tokens"])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (None, OPENAI_LIMIT),
        ("https://api.openai.com/v1", OPENAI_LIMIT),
        ("https://eu.api.openai.com/v1", OPENAI_LIMIT),
        ("https://one.openai.azure.com/openai/v1/", OPENAI_LIMIT),
        ("https://one.cognitiveservices.azure.com/openai/v1", OPENAI_LIMIT),
        ("https://one.services.ai.azure.com/models", OPENAI_LIMIT),
        ("https://ONE.openai.azure.us/openai/v1", OPENAI_LIMIT),
        ("https://one.openai.azure.cn/openai/v1", OPENAI_LIMIT),
        ("https://evilapi.openai.com.example/v1", LIMIT),
        ("https://notapi.openai.com/v1", LIMIT),
        ("http://127.0.0.1:8000/v1", LIMIT),
    ],
)
def test_the_output_limit_is_sent_under_the_name_that_the_host_uses(
    url: str | None, name: str
) -> None:
    assert name == limit_name(url)


def test_usage_is_translated_to_the_fields_of_the_standard() -> None:
    counts = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    } == counted(counts)


@pytest.mark.parametrize(
    ("counts", "input_tokens", "output_tokens", "reasoning_tokens"),
    [
        (
            {"prompt_tokens": 12, "completion_tokens": 5, "input_tokens": 0, "output_tokens": 0},
            12,
            5,
            0,
        ),
        (
            {"prompt_tokens": 0, "completion_tokens": 0, "input_tokens": 12, "output_tokens": 5},
            12,
            5,
            0,
        ),
        ({"prompt_tokens": 12.0, "completion_tokens": 5.0, "total_tokens": 17.0}, 12, 5, 0),
        ({"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 47}, 12, 35, 30),
        (
            {
                "input_tokens": 12,
                "output_tokens": 35,
                "output_tokens_details": {"reasoning_tokens": 30},
            },
            12,
            35,
            30,
        ),
        ({"prompt_tokens": 12.5, "completion_tokens": float("nan"), "total_tokens": 3}, 3, 0, 0),
        ({"prompt_tokens": 12, "completion_tokens": float("inf"), "total_tokens": 12}, 12, 0, 0),
        ({"total_tokens": 30}, 30, 0, 0),
        ({"prompt_tokens": "12", "completion_tokens": "5", "total_tokens": "17"}, 12, 5, 0),
        ({"inputTokens": 12, "outputTokens": 5, "totalTokens": 17}, 12, 5, 0),
        # Totals that do not include the reasoning tokens or the cached input tokens.
        (
            {
                "prompt_tokens": 12,
                "completion_tokens": 5,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            12,
            35,
            30,
        ),
        (
            {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 50,
            },
            160,
            5,
            0,
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 20,
                "cache_read_input_tokens": 5,
            },
            15,
            5,
            0,
        ),
        (
            {
                "prompt_tokens": 160,
                "completion_tokens": 5,
                "total_tokens": 165,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 50,
            },
            160,
            5,
            0,
        ),
    ],
)
def test_the_larger_of_two_conflicting_counts_is_used(
    counts: dict[str, Any], input_tokens: int, output_tokens: int, reasoning_tokens: int
) -> None:
    usage = counted(counts)
    assert (input_tokens, output_tokens, reasoning_tokens) == (
        usage["input_tokens"],
        usage["output_tokens"],
        usage["output_tokens_details"]["reasoning_tokens"],
    )
    assert input_tokens + output_tokens == usage["total_tokens"]


@pytest.mark.parametrize(
    "frames",
    [
        [{"prompt_tokens": 12, "completion_tokens": 5}],
        [{"prompt_tokens": 12}, {"completion_tokens": 5}],
        [
            {"prompt_tokens": 12, "completion_tokens": 0},
            {"prompt_tokens": 0, "completion_tokens": 5},
        ],
        [
            {"prompt_tokens": 12, "completion_tokens": 5},
            {"prompt_tokens": 0, "completion_tokens": 0},
        ],
        [{"prompt_tokens": 12, "completion_tokens": 5}, {"prompt_tokens": None}],
    ],
)
def test_counts_of_several_chunks_never_decrease(frames: list[dict[str, Any]]) -> None:
    counts: dict[str, Any] = {}
    for frame in frames:
        counts = merged(counts, {**frame, "prompt_tokens_details": {"cached_tokens": 4}})
    usage = counted(counts)
    assert (12, 5, 4) == (
        usage["input_tokens"],
        usage["output_tokens"],
        usage["input_tokens_details"]["cached_tokens"],
    )


@pytest.mark.parametrize("counts", [{}, {"prompt_tokens": "some"}, {"prompt_tokens_details": 7}])
def test_usage_of_unknown_shape_is_ignored(counts: dict[str, Any]) -> None:
    assert 0 == counted(counts)["total_tokens"]


def test_missing_usage_is_estimated_from_characters() -> None:
    assert 4 == estimated(characters(arguments(input="12345")), 5)["total_tokens"]


def test_parameters_that_only_chat_completions_have_are_passed_on() -> None:
    asked = arguments(input="hi", holdline_stop=["\n"], holdline_seed=0)
    assert (["\n"], 0) == (asked["stop"], asked["seed"])


def test_parameters_that_only_chat_completions_have_are_refused_for_the_responses_api() -> None:
    job = Job("resp_x", "me", 0, {"input": "hi", "holdline_seed": 0}, [])
    with pytest.raises(UnsupportedInput):
        request(job, model="m")


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        (None, OPENAI_LIMIT),
        ("https://api.openai.com/v1", OPENAI_LIMIT),
        ("http://127.0.0.1:8000/v1", LIMIT),
    ],
)
def test_the_name_of_the_output_limit_can_be_configured(base_url: str | None, name: str) -> None:
    assert name == limit_name(base_url)
