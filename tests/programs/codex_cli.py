"""Runs Codex CLI, unmodified and with its default switches, with a Holdline of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Literal

from tests.programs.codex_model import FEW_TOKENS, FULL_TOKENS, CodexModel
from tests.programs.running import HERE, output_of
from tests.system import Process, Server, System

Event = dict[str, Any]
Transport = Literal["http", "websocket"]
# From a provider that is called OpenAI, Codex requests `compaction` items. Otherwise it requests
# a summary as a text.
Provider = Literal["OpenAI", "Holdline"]

# Codex knows this model, and sends it a free-form patch tool and a search for tools.
MODEL: Final = "gpt-5.5"
SECONDS: Final = 180


class Codex:
    """Codex CLI in a folder of its own, and its Holdline."""

    def __init__(self, folder: Path, system: System, server: Server, worker: Process) -> None:
        self.system, self.server, self.worker = system, server, worker
        self.work, self._home = folder / "work", folder / "home"
        self.work.mkdir()
        self._home.mkdir()

    def configure(self, transport: Transport, provider: Provider) -> None:
        """Writes the configuration, which contains no switch that concerns the requests."""
        (self._home / "config.toml").write_text(f"""
            model = "{MODEL}"
            model_provider = "holdline"
            model_auto_compact_token_limit = {(FEW_TOKENS + FULL_TOKENS) // 2}
            [model_providers.holdline]
            name = "{provider}"
            base_url = "{self.server.url}/v1"
            wire_api = "responses"
            supports_websockets = {json.dumps(transport == "websocket")}
        """)

    async def run(self, *arguments: str) -> list[Event]:
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
async def codex(
    folder: Path,
    model: CodexModel,
    redis_url: str,
    transport: Transport,
    provider: Provider = "Holdline",
) -> AsyncIterator[Codex]:
    """Starts Holdline with a models file for Codex."""
    models = folder / "models.toml"
    models.write_text(f"""
        [models."{MODEL}"]
        base_url = "{model.url}"
        api = "{model.api}"
        {'unsupported_tools = "drop"' if model.api == "chat" else ""}
    """)
    async with System(redis_url, folder) as system:
        system.environ |= {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": MODEL}
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        cli = Codex(folder, system, server, worker)
        cli.configure(transport, provider)
        yield cli


def said(events: list[Event]) -> str:
    """Returns the last message of the agent."""
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    return str([item["text"] for item in items if item["type"] == "agent_message"][-1])


def errors(events: list[Event]) -> list[str]:
    """Returns the errors that Codex has printed. They include each time that it reconnected."""
    return [event["message"] for event in events if event["type"] == "error"]
