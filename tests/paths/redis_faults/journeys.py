"""Prompts for the tests with Redis faults, and checks that their answers are complete."""

from __future__ import annotations

import hashlib

from tests.fake_model import FakeModel
from tests.fake_wire import Call
from tests.paths.redis_faults.clients import TERMINAL, Answer, SocketClient

# A script for an answer that takes three seconds. `prompts` adds a number to make each prompt
# unique.
SLOW = "mode=slow tokens=60 pace=0.05"


def prompts(count: int, script: str = SLOW) -> list[str]:
    return [f"nr={number} {script}" for number in range(count)]


def assert_complete(answer: Answer, model: FakeModel, *, calls: int = 1) -> None:
    """Asserts that the answer has no gap, no repeat and a correct checksum.

    Its text must equal the output of the last of `calls` model calls.
    """
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


async def assert_answers(client: SocketClient, model: FakeModel) -> None:
    """Asserts that a prompt is answered over the socket that stayed open during the fault."""
    answer = await client.ask("anew")
    await answer.wait_for_end()
    assert_complete(answer, model)


def calls_of(model: FakeModel, prompt: str) -> list[Call]:
    return [call for call in model.calls if call.prompt == prompt]
