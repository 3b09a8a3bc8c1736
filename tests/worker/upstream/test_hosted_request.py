"""Tests the requests to endpoints of the Responses API that use a provider's own tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.record import Job, Status
from tests.fake_model import FakeModel
from tests.worker.conftest import MakeHarness
from worker.upstream.chat import request as chat_request
from worker.upstream.chat.messages import UnsupportedInput
from worker.upstream.chat.unsupported import check
from worker.upstream.deltas import Reported
from worker.upstream.failures import classify
from worker.upstream.responses.events import MAX_REPORTED, ResponsesEventReader
from worker.upstream.responses.request import items, request

SAID = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}


def job(*context: dict[str, Any], **params: Any) -> Job:
    return Job("resp_1", "o", 0, {"model": "m", "input": [SAID], **params}, context=[*context])


def test_a_parameter_is_passed_on_with_the_members_that_the_endpoint_knows() -> None:
    tools = [
        {"type": "mcp", "server_label": "m", "headers": None},
        {"type": "function", "name": "f", "description": None, "parameters": {"const": None}},
    ]
    cache = {"mode": "explicit", "ttl": "30m", "prewarm": False, "comparison_response_id": "resp_0"}
    sent = request(job(tools=tools, prompt_cache_options=cache, user="u"), model="up")
    function = {"type": "function", "name": "f", "parameters": {"const": None}}
    assert [tools[0], function] == sent["tools"]
    assert {"mode": "explicit", "ttl": "30m"} == sent["prompt_cache_options"]
    assert "u" == sent["user"]
    own = {"comparison_response_id": "resp_0"}
    assert "prompt_cache_options" not in request(job(prompt_cache_options=own), model="up")


@pytest.mark.parametrize(
    "kind", ["custom_tool_call", "shell_call", "apply_patch_call", "local_shell_call"]
)
def test_a_call_without_a_result_gets_one(kind: str) -> None:
    call = {"type": kind, "id": "x_1", "call_id": "c", "name": "f", "input": ""}
    sent = items(job(call))
    assert [kind, f"{kind}_output", "message"] == [item["type"] for item in sent]
    assert "not executed" in str(sent[1])
    answer = {"type": f"{kind}_output", "id": "y_1", "call_id": "c", "output": "done"}
    sent = items(job(call, answer))
    assert [kind, f"{kind}_output", "message"] == [item["type"] for item in sent]


def test_a_local_shell_result_names_the_item_of_a_call_in_an_earlier_turn() -> None:
    action = {"type": "exec", "command": ["ls"], "env": {}}
    call = {"type": "local_shell_call", "id": "lsh_1", "call_id": "c", "action": action}
    # The form in which the server stores a result that a client sent with the item's id.
    result = {"type": "local_shell_call_output", "id": "lsho_1", "call_id": "lsh_1", "output": "b"}
    turn = job(call, input=[result])
    sent = items(turn)
    assert [("lsh_1", "c"), ("c", "c")] == [(item["id"], item["call_id"]) for item in sent]
    called, answer = chat_request.completion(turn, default_model="m")["messages"]
    assert ["c"] == [made["id"] for made in called["tool_calls"]]
    assert ("tool", "c", "b") == (answer["role"], answer["tool_call_id"], answer["content"])


@pytest.mark.parametrize("status", ["in_progress", "incomplete", "searching"])
def test_a_hosted_call_that_was_cut_off_is_left_out(status: str) -> None:
    cut = {"type": "web_search_call", "id": "ws_1", "status": status}
    whole = {**cut, "status": "completed"}
    assert ["web_search_call", "message"] == [item["type"] for item in items(job(cut, whole))]


def test_an_item_of_tomorrow_is_sent_unchanged() -> None:
    item = {"type": "new_call", "id": "new_1", "x": [None]}
    assert item == items(job(item))[0]


@pytest.mark.parametrize(
    "params",
    [
        {"moderation": {"model": "m"}},
        {"access_programs": {"cyber": "standard"}},
        {"image": {"context_compression": "enabled"}},
        {"tool_choice": {"type": "mcp", "server_label": "m"}},
        {"tool_choice": {"type": "tool_of_tomorrow"}},
    ],
)
def test_a_chat_completion_cannot_express_a_parameter_for_a_provider(
    params: dict[str, Any],
) -> None:
    with pytest.raises(UnsupportedInput):
        check(params)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "file_id": "f"},
        {"type": "input_file", "file_id": "f"},
        {"type": "input_file", "file_url": "https://a.example"},
    ],
)
def test_a_chat_completion_cannot_express_a_file_of_a_provider(part: dict[str, Any]) -> None:
    message = {"type": "message", "role": "user", "content": [part]}
    with pytest.raises(UnsupportedInput):
        chat_request.completion(job(message), default_model="m")


@pytest.mark.parametrize("name", ["safety_identifier", "prompt_cache_key", "user"])
def test_an_endpoint_may_refuse_a_hint(name: str) -> None:
    error = {"error": {"message": "Unknown parameter", "param": name, "code": "unknown_parameter"}}
    assert name == classify(error, 400).parameter
    assert "" == classify({"error": {"message": "Bad tool", "param": "tools"}}, 400).parameter


def test_results_of_a_provider_are_passed_on_within_a_limit() -> None:
    for size, kept in ((10, True), (MAX_REPORTED, False)):
        usage = {"web_search": {"text": "x" * size}}
        end = {"status": "completed", "output": [], "tool_usage": usage, "billing": 1}
        payload = json.dumps({"type": "response.completed", "response": end}).encode()
        pieces = ResponsesEventReader().read(payload)
        reported = [piece.fields for piece in pieces if isinstance(piece, Reported)]
        assert ([{"tool_usage": usage}] if kept else []) == reported


async def test_a_fallback_with_the_responses_api_gets_what_a_chat_model_cannot_do(
    make_harness: MakeHarness, tmp_path: Path
) -> None:
    async with FakeModel() as model:
        path = tmp_path / "models.toml"
        path.write_text(
            f'[models.c]\nbase_url = "{model.url}"\nfallbacks = ["r"]\n'
            f'[models.r]\nbase_url = "{model.url}"\napi = "responses"\n'
        )
        async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
            for params in (
                {"moderation": {"model": "m"}},
                {"tools": [{"type": "web_search"}]},
            ):
                view = await harness.execute("hi", model="c", **params)
                assert Status.COMPLETED is view.status
                assert params.items() <= model.calls[-1].body.items()
