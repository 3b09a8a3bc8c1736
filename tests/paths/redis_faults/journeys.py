"""Prompts of the journeys through faults of Redis, and whether their answers are whole."""

from __future__ import annotations

import hashlib

from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.paths.redis_faults.clients import TERMINAL, Answer, SocketClient

# Three seconds at a human pace; a count makes each prompt one of its own.
SLOW = "mode=slow tokens=60 pace=0.05"


def prompts(count: int, script: str = SLOW) -> list[str]:
    return [f"nr={number} {script}" for number in range(count)]


def assert_whole(answer: Answer, model: FakeModel, *, calls: int = 1) -> None:
    """It came without a gap or a repeat, as the last of so many calls said it, and proved."""
    assert None is answer.problem
    assert list(range(len(answer.events))) == [e["sequence_number"] for e in answer.events]
    assert [answer.events[-1]] == [e for e in answer.events if e["type"] in TERMINAL]
    response = answer.events[-1]["response"]
    assert "completed" == response["status"]
    asked = calls_of(model, answer.prompt)
    assert calls == len(asked)
    assert asked[-1].sent == answer.text
    digest = hashlib.sha256(answer.text.encode()).hexdigest()
    assert (digest, len(answer.text.encode())) == (
        response["holdline"]["sha256"],
        response["holdline"]["bytes"],
    )


async def can_answer(client: SocketClient, model: FakeModel) -> None:
    """The socket that was open through it all takes a new prompt."""
    answer = await client.ask("anew")
    await answer.ends()
    assert_whole(answer, model)


def calls_of(model: FakeModel, prompt: str) -> list[Call]:
    return [call for call in model.calls if call.prompt == prompt]
