"""Tests the Python client with tools and with unstored responses."""

from __future__ import annotations

from typing import Any

import holdline_client
from holdline_client import events
from tests.paths.conftest import Shared

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


async def test_a_tool_loop_works_with_the_python_client(shared: Shared) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        answer = client.ask(
            shared.prompt('mode=call args={"city":"Bern"}'), tools=[WEATHER], tool_choice="required"
        )
        items = [h.item async for h in answer.events() if isinstance(h, events.Item)]
        (call,) = [item for item in items if item["type"] == "function_call"]
        assert ("weather", "completed", "") == (call["name"], answer.status, answer.text)
        assert answer.response is not None
        assert call in answer.response["output"]

        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "rain"}
        follow_up = client.ask([result], previous_response_id=answer.id, tools=[WEATHER])
        text = await follow_up
    assert follow_up.verified
    assert text == follow_up.text


async def test_an_unstored_answer_is_complete_and_verified(shared: Shared) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        answer = client.ask(shared.prompt("mode=slow"), store=False)
        text = await answer
    assert ("completed", True, text) == (answer.status, answer.verified, answer.text)
