"""Tests each case of the standard's compliance suite, and more, over each transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fake_model import FakeModel
from tests.paths.compliance import schema
from tests.paths.compliance.calls import TRANSPORTS, Turn, compact
from tests.paths.compliance.cases import ARGUMENTS, CASES, SUITE, WEATHER, Case, assistant, user
from tests.paths.conftest import Shared
from tests.system import System

MODELS = """
[models.m]
base_url = "{url}"
api = "responses"
"""


def test_the_schema_has_the_promised_version() -> None:
    assert "2026-04-24" == schema.VERSION


def test_each_case_of_the_suite_has_a_test() -> None:
    own = {f"test_{id_.replace('-', '_')}": id_ for id_ in SUITE}
    tested = {case.id for case in CASES} | {own[name] for name in globals() if name in own}
    assert set() == set(SUITE) - tested


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_a_compliance_case_with_one_request(
    shared: Shared, case: Case, transport: str
) -> None:
    async with TRANSPORTS[transport](shared.server) as ask:
        turn = await ask(case.request(shared.prompt(case.script)))
    assert {} == turn.error
    assert "completed" == turn.response["status"]
    assert case.output in [item["type"] for item in turn.response["output"]]
    if transport != "plain":
        turn.check_complete()
        assert case.kinds <= set(turn.kinds)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_previous_response_id(shared: Shared, transport: str) -> None:
    first, second = shared.prompt("say=OK"), shared.prompt("say=papaya")
    async with TRANSPORTS[transport](shared.server) as ask:
        before = await ask({"model": "m", "input": first})
        after = await ask(
            {"model": "m", "input": second, "previous_response_id": before.response["id"]}
        )
    assert "completed" == after.response["status"]
    assert before.response["id"] == after.response["previous_response_id"]
    said = [message["content"] for message in shared.calls(second)[0].body["messages"]]
    assert [first, "OK", second] == said


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_function_call_roundtrip(shared: Shared, transport: str) -> None:
    prompt = shared.prompt(f"mode=call args={ARGUMENTS}")
    tools = {"tools": [WEATHER], "tool_choice": {"type": "function", "name": WEATHER["name"]}}
    async with TRANSPORTS[transport](shared.server) as ask:
        first = await ask({"model": "m", "input": prompt, **tools})
        (call,) = first.response["output"]
        output = {"call_id": call["call_id"], "output": "17 degrees and clear"}
        second = await ask(
            {
                "model": "m",
                "previous_response_id": first.response["id"],
                "input": [{"type": "function_call_output", **output}],
            }
        )
    assert (WEATHER["name"], ARGUMENTS) == (call["name"], call["arguments"])
    assert "completed" == second.response["status"]
    (message,) = second.response["output"]
    assert output["output"] == message["content"][0]["text"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_response_output_phase_schema(system: System, tmp_path: Path, transport: str) -> None:
    models = tmp_path / "models.toml"
    async with FakeModel(mode="phases") as model:
        models.write_text(MODELS.format(url=model.url))
        served = {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": "m"}
        server = await system.server(**served)
        await system.worker(model.url, **served)
        async with TRANSPORTS[transport](server) as ask:
            turn = await ask({"model": "m", "input": "x"})
    assert ["commentary", "final_answer"] == [item["phase"] for item in turn.response["output"]]


async def test_websocket_response(shared: Shared) -> None:
    async with TRANSPORTS["socket"](shared.server) as ask:
        turn = await ask({"model": "m", "input": [user(shared.prompt("tokens=3"))]})
    turn.check_complete()
    assert "completed" == turn.response["status"]
    assert "response.output_text.delta" in turn.kinds


async def test_compact_response(shared: Shared) -> None:
    said = [user(shared.prompt("say=Tuesday.")), assistant("Then support is told first.")]
    status, body = await compact(
        shared.server, {"model": "m", "prompt_cache_key": "compliance", "input": said}
    )
    assert (200, "response.compaction") == (status, body["object"])
    schema.check_compaction(body)
    assert "compaction" in [item["type"] for item in body["output"]]


async def test_compact_missing_model(shared: Shared) -> None:
    status, body = await compact(shared.server, {"input": [user("Compact this.")]})
    assert 400 == status
    assert ("missing_required_parameter", "model") == (
        body["error"]["code"],
        body["error"]["param"],
    )


async def test_websocket_compact_new_chain(shared: Shared) -> None:
    said = [
        user([{"type": "input_text", "text": "Remember the code word: slate."}]),
        assistant([{"type": "output_text", "text": "OK."}]),
        user([{"type": "input_text", "text": shared.prompt("say=slate")}]),
    ]
    status, compacted = await compact(shared.server, {"model": "m", "input": said})
    assert 200 == status
    follow = shared.prompt("say=compacted")
    async with TRANSPORTS["socket"](shared.server) as ask:
        turn = await ask(unstored("", input=[*compacted["output"], user(follow)], tools=[]))
    turn.check_complete()
    assert "completed" == turn.response["status"]
    [call] = shared.calls(follow)
    assert "slate" in str(call.body["messages"][:-1])


async def test_websocket_sequential_responses(shared: Shared) -> None:
    async with TRANSPORTS["socket"](shared.server) as ask:
        turns = [
            await ask({"model": "m", "store": False, "input": shared.prompt(f"say={word}")})
            for word in ("first", "second")
        ]
    for turn in turns:
        turn.check_complete()
        assert "completed" == turn.response["status"]
    assert turns[0].response["id"] != turns[1].response["id"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_websocket_previous_response_not_found(shared: Shared, transport: str) -> None:
    async with TRANSPORTS[transport](shared.server) as ask:
        turn = await ask(
            {
                "model": "m",
                "store": False,
                "previous_response_id": "resp_missing",
                "input": "This should fail.",
            }
        )
    assert "previous_response_not_found" == turn.error["code"]
    assert {} == turn.response


def unstored(text: str, previous: Turn | None = None, **more: Any) -> dict[str, Any]:
    """Returns an unstored request, which may continue an earlier turn."""
    request = {"model": "m", "store": False, "input": text, **more}
    return request | ({"previous_response_id": previous.response["id"]} if previous else {})


async def test_websocket_continuation(shared: Shared) -> None:
    prompts = [shared.prompt("say=OK"), shared.prompt("say=cobalt")]
    async with TRANSPORTS["socket"](shared.server) as ask:
        first = await ask(unstored(prompts[0]))
        second = await ask(unstored(prompts[1], first))
    assert ["completed"] * 2 == [turn.response["status"] for turn in (first, second)]
    said = [message["content"] for message in shared.calls(prompts[1])[0].body["messages"]]
    assert [prompts[0], "OK", prompts[1]] == said


async def test_websocket_generate_false(shared: Shared) -> None:
    prompts = [shared.prompt(), shared.prompt("say=warmed")]
    async with TRANSPORTS["socket"](shared.server) as ask:
        warm = await ask(unstored(prompts[0], generate=False))
        answer = await ask(unstored(prompts[1], warm))
    assert ("completed", []) == (warm.response["status"], warm.response["output"])
    assert "completed" == answer.response["status"]
    assert [] == shared.calls(prompts[0])
    said = [message["content"] for message in shared.calls(prompts[1])[0].body["messages"]]
    assert prompts == said


async def test_websocket_failed_continuation_evicts_cache(shared: Shared) -> None:
    async with TRANSPORTS["socket"](shared.server) as ask:
        first = await ask(unstored(shared.prompt("say=OK")))
        missing = {"type": "function_call_output", "call_id": "call_missing", "output": "none"}
        failed = await ask(unstored("", first, input=[missing]))
        again = await ask(unstored(shared.prompt(), first))
    assert failed.error or failed.response["status"] == "failed"
    assert "previous_response_not_found" == again.error["code"]


async def test_websocket_reconnect_store_false_recovery(shared: Shared) -> None:
    async with TRANSPORTS["socket"](shared.server) as ask:
        first = await ask(unstored(shared.prompt()))
    async with TRANSPORTS["socket"](shared.server) as ask:
        lost = await ask(unstored(shared.prompt(), first))
        recovered = await ask(unstored("", input=[user(shared.prompt())]))
    assert "previous_response_not_found" == lost.error["code"]
    assert "completed" == recovered.response["status"]
