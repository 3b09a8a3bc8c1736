"""Tests Codex CLI, unmodified and with its default switches, over HTTP and over its WebSocket."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from command.up.redis import embedded_redis
from tests.paths.compliance.cases import PNG
from tests.programs.codex_cli import Codex, Provider, Transport, codex, errors, said
from tests.programs.codex_model import SUMMARY, Api, CodexModel, Item, compacts
from tests.programs.codex_task import ANSWER, CONTENT, STEPS, check_files

pytestmark = pytest.mark.timeout(400)

SCHEMA = {
    "type": "object",
    "properties": {"file": {"type": "string"}},
    "required": ["file"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("api", "transport"),
    [
        ("chat", "http"),
        ("responses", "websocket"),
        pytest.param("chat", "websocket", marks=pytest.mark.heavy),
        pytest.param("responses", "http", marks=pytest.mark.heavy),
    ],
)
async def test_codex_patches_runs_searches_and_resumes(
    tmp_path: Path, api: Api, transport: Transport
) -> None:
    image, schema = tmp_path / "image.png", tmp_path / "schema.json"
    image.write_bytes(base64.b64decode(PNG))
    schema.write_text(json.dumps(SCHEMA))
    async with (
        CodexModel(api, STEPS) as model,
        embedded_redis() as redis_url,
        codex(tmp_path, model, redis_url, transport) as cli,
    ):
        asked = await cli.run("--output-schema", str(schema), "-i", str(image), "--", "make a file")
        assert ([], ANSWER) == (errors(asked), said(asked))
        check_files(cli.work)
        created, changed, shown, found = model.results
        assert "Success" in created
        assert "Success" in changed
        assert CONTENT in shown
        assert len(STEPS) == len(model.bodies)
        assert all(PNG in json.dumps(body) for body in model.bodies)
        assert all(SCHEMA == _schema(body) for body in model.bodies)
        _check_found_tools(model, found)

        resumed = await cli.run("resume", "--last", "go on")
        assert ([], ANSWER) == (errors(resumed), said(resumed))
        assert len(STEPS) + 1 == len(model.bodies)
        for text in ("make a file", ANSWER, "go on"):
            assert json.dumps(text) in _conversation(model.bodies[-1])
        if api == "responses":
            thoughts = [f"the thought of item_call_{number + 1}" for number in range(len(STEPS))]
            assert thoughts == [
                item["encrypted_content"]
                for item in model.bodies[-1]["input"]
                if item["type"] == "reasoning"
            ]
        await _check_transport(cli, transport)


@pytest.mark.parametrize(
    ("api", "transport", "provider"),
    [
        ("chat", "http", "OpenAI"),
        *(
            pytest.param(*case, marks=pytest.mark.heavy)
            for case in (
                ("chat", "websocket", "Holdline"),
                ("responses", "http", "Holdline"),
                ("responses", "websocket", "OpenAI"),
            )
        ),
    ],
)
async def test_codex_compacts_its_conversation(
    tmp_path: Path, api: Api, transport: Transport, provider: Provider
) -> None:
    async with (
        CodexModel(api, STEPS, full=2) as model,
        embedded_redis() as redis_url,
        codex(tmp_path, model, redis_url, transport, provider) as cli,
    ):
        asked = await cli.run("make a file")
        resumed = await cli.run("resume", "--last", "go on")
        assert ([], ANSWER) == (errors(asked + resumed), said(resumed))
        check_files(cli.work)
        assert len(STEPS) + 2 == len(model.bodies)
        assert [model.bodies[3]] == [body for body in model.bodies if compacts(body)]
        # The summary replaces the calls.
        assert "*** Begin Patch" in _conversation(model.bodies[3])
        for body in model.bodies[4:]:
            assert SUMMARY in _conversation(body)
            assert "*** Begin Patch" not in _conversation(body)
        assert "go on" in _conversation(model.bodies[-1])
        await _check_transport(cli, transport)


def _conversation(body: Item) -> str:
    """Returns the messages or items of a request as JSON."""
    return json.dumps(body.get("messages", body.get("input")))


def _schema(body: Item) -> Item:
    """Returns the schema of the answer that a request demands."""
    found: Item = (
        body["text"]["format"] if "text" in body else body["response_format"]["json_schema"]
    )["schema"]
    return found


def _check_found_tools(model: CodexModel, found: str | list[Item]) -> None:
    """Checks that the request after a search for tools contains the tools that were found."""
    if isinstance(found, list):
        [namespace] = found
        assert "namespace" == namespace["type"]
        assert "spawn_agent" in [tool["name"] for tool in namespace["tools"]]
        return
    names = set(json.loads(found)["found"])
    before, after = ({tool["function"]["name"] for tool in b["tools"]} for b in model.bodies[-2:])
    assert names
    assert names == after - before


async def _check_transport(cli: Codex, transport: Transport) -> None:
    name = "holdline_events_delivered_total"
    over_sockets = await cli.server.metric(f'{name}{{transport="websocket"}}')
    over_streams = await cli.server.metric(f'{name}{{transport="sse"}}')
    assert (transport == "websocket") == (over_sockets > 0)
    assert (transport == "http") == (over_streams > 0)
