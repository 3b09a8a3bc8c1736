"""Every case of the standard's compliance suite that is not optional, on every transport."""

from __future__ import annotations

import pytest

from tests.paths.compliance import schema
from tests.paths.compliance.calls import TRANSPORTS
from tests.paths.compliance.cases import CASES, Case
from tests.paths.conftest import Shared


def test_the_schema_is_that_of_the_version_that_is_promised() -> None:
    assert "2026-04-24" == schema.VERSION


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_a_case_of_one_request(shared: Shared, case: Case, transport: str) -> None:
    async with TRANSPORTS[transport](shared.server) as ask:
        turn = await ask(case.request(shared.prompt(case.script)))
    assert {} == turn.error
    assert "completed" == turn.response["status"]
    assert case.output in [item["type"] for item in turn.response["output"]]
    if transport != "plain":
        turn.is_whole()
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


async def test_websocket_sequential_responses(shared: Shared) -> None:
    async with TRANSPORTS["socket"](shared.server) as ask:
        turns = [
            await ask({"model": "m", "store": False, "input": shared.prompt(f"say={word}")})
            for word in ("first", "second")
        ]
    for turn in turns:
        turn.is_whole()
        assert "completed" == turn.response["status"]
    assert turns[0].response["id"] != turns[1].response["id"]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_missing_previous_response_is_refused_by_its_code(
    shared: Shared, transport: str
) -> None:
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
