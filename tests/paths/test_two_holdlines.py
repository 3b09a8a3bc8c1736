"""Tests a Holdline server that is the upstream model of another one, with `api = "responses"`."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.log.events import RESTARTED, output_text
from tests.paths.compliance.calls import TRANSPORTS
from tests.paths.compliance.cases import ARGUMENTS, WEATHER
from tests.paths.conftest import Shared
from tests.system import Server, System

MODELS = """
default = "m"
[models.m]
base_url = "{url}/v1"
api_key_env = "OPENAI_API_KEY"
api = "responses"
"""


@pytest.fixture
async def server(system: System, shared: Shared, tmp_path: Path) -> Server:
    """Returns the server of a Holdline whose model is the shared Holdline."""
    models = tmp_path / "models.toml"
    models.write_text(MODELS.format(url=shared.server.url))
    system.environ["HOLDLINE_MODELS"] = str(models)
    del system.environ["HOLDLINE_MODEL"]
    await system.worker(shared.server.url)
    return await system.server()


async def test_a_restart_of_the_upstream_is_never_spliced(server: Server, shared: Shared) -> None:
    prompt = shared.prompt("mode=eof times=1 tokens=10")
    async with TRANSPORTS["socket"](server) as ask:
        turn = await ask({"input": prompt})
    assert "completed" == turn.response["status"]
    assert output_text(turn.response["output"]) in [call.sent for call in shared.calls(prompt)[1:]]
    assert [RESTARTED] == [e["type"] for e in turn.events if e["type"] == RESTARTED]


async def test_a_holdline_works_as_an_upstream(server: Server, shared: Shared) -> None:
    async with TRANSPORTS["socket"](server) as ask:
        thought = await ask({"input": shared.prompt("mode=think tokens=3")})
        prompt = shared.prompt(f"mode=call args={ARGUMENTS}")
        first = await ask({"input": prompt, "tools": [WEATHER]})
        (call,) = first.response["output"]
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "It rains."}
        second = await ask(
            {
                "input": [result],
                "tools": [WEATHER],
                "previous_response_id": first.response["id"],
            }
        )
    for turn in (thought, first, second):
        turn.check_complete()
        assert "completed" == turn.response["status"]
    assert ["reasoning", "message"] == [item["type"] for item in thought.response["output"]]
    assert ARGUMENTS == call["arguments"]
    (message,) = second.response["output"]
    assert "It rains." == message["content"][0]["text"]
    assert 2 == len(shared.calls(prompt))
