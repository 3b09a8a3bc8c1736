"""Tests Codex CLI, unmodified and with its default switches, on a chat-completions model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dev.redis import embedded_redis
from tests.programs.codex_model import CodexModel, Step
from tests.programs.running import HERE, output_of
from tests.system import Process, Server, System

# Codex knows this model, and sends it a free-form patch tool and a search for tools.
MODEL = "gpt-5.5"
PATCH = '*** Begin Patch\n*** Add File: a.txt\n+é "😀" \\d\n*** End Patch\n'
STEPS: list[Step] = [
    ("apply_patch", {"input": PATCH}),
    ("exec_command", {"cmd": "cat a.txt"}),
    ("tool_search", {"query": "spawn agent"}),
    "All |done.",
]
SECONDS = 90


class Codex:
    """Codex CLI in a folder of its own, with a running Holdline."""

    def __init__(self, folder: Path, server: Server, worker: Process) -> None:
        self.server, self.worker = server, worker
        self.work, self._home = folder / "work", folder / "home"
        self.work.mkdir()
        self._home.mkdir()
        (self._home / "config.toml").write_text(f"""
            model = "{MODEL}"
            model_provider = "holdline"
            [model_providers.holdline]
            name = "Holdline"
            base_url = "{server.url}/v1"
            wire_api = "responses"
        """)

    async def run(self, *arguments: str) -> list[dict[str, Any]]:
        """Runs `codex exec`, which must succeed, and returns the events that it prints."""
        output = await output_of(
            *(str(HERE / "node_modules/.bin/codex"), "exec", "--json", "--skip-git-repo-check"),
            "--dangerously-bypass-approvals-and-sandbox",
            *arguments,
            seconds=SECONDS,
            cwd=self.work,
            CODEX_HOME=str(self._home),
        )
        return [json.loads(line) for line in output.splitlines()]


@contextlib.asynccontextmanager
async def codex(folder: Path, model: CodexModel) -> AsyncIterator[tuple[Codex, System]]:
    """Starts Holdline with a models file for Codex."""
    models = folder / "models.toml"
    models.write_text(f'[models."{MODEL}"]\nbase_url = "{model.url}"\nunsupported_tools = "drop"\n')
    async with embedded_redis() as url, System(url, folder) as system:
        system.environ |= {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": MODEL}
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        yield Codex(folder, server, worker), system


def said(events: list[dict[str, Any]]) -> str:
    """Returns the last message of the agent."""
    texts = [e["item"]["text"] for e in events if e.get("item", {}).get("type") == "agent_message"]
    return str(texts[-1])


@pytest.mark.timeout(200)
async def test_codex_patches_runs_and_searches(tmp_path: Path) -> None:
    async with CodexModel(STEPS) as model, codex(tmp_path, model) as (cli, _):
        assert "All done." == said(await cli.run("make a file"))
        assert 'é "😀" \\d\n' == (cli.work / "a.txt").read_text()
        patched, shown, found = model.results()
        assert "Success" in patched
        assert 'é "😀" \\d' in shown
        # The tools that the search found are functions in the next request.
        names = json.loads(found)["found"]
        assert names
        assert set(names) <= set(model.functions(-1)) - set(model.functions(-2))
        assert len(STEPS) == len(model.bodies)

        assert "All done." == said(await cli.run("resume", "--last", "go on"))
        assert len(STEPS) + 1 == len(model.bodies)


@pytest.mark.heavy
@pytest.mark.timeout(200)
async def test_codex_survives_the_death_of_a_worker_during_a_patch(tmp_path: Path) -> None:
    async with CodexModel(STEPS, stalls=0) as model, codex(tmp_path, model) as (cli, system):
        running = asyncio.create_task(cli.run("make a file"))
        await asyncio.wait_for(model.stalled.wait(), SECONDS)
        await cli.worker.kill()
        await system.worker(model.url)
        assert "All done." == said(await running)
        assert 'é "😀" \\d\n' == (cli.work / "a.txt").read_text()
        # The model was called once more, for the step that the worker's death cut off.
        assert len(STEPS) + 1 == len(model.bodies)


@pytest.mark.heavy
@pytest.mark.timeout(200)
async def test_codex_survives_the_death_of_a_server_during_a_patch(tmp_path: Path) -> None:
    async with CodexModel(STEPS, stalls=0) as model, codex(tmp_path, model) as (cli, system):
        running = asyncio.create_task(cli.run("make a file"))
        await asyncio.wait_for(model.stalled.wait(), SECONDS)
        await cli.server.kill()
        await system.server(HOLDLINE_PORT=cli.server.url.rpartition(":")[2])
        model.resumed.set()
        assert "All done." == said(await running)
        assert 'é "😀" \\d\n' == (cli.work / "a.txt").read_text()
        # Codex sends the request that was cut off again, as a new one.
        assert len(STEPS) + 1 == len(model.bodies)
