"""Programs that nobody here wrote, unmodified, each pointed at a server by its base URL alone."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.paths.conftest import Shared

HERE = Path(__file__).parent
PYTHON = Path(os.environ["PROGRAMS"]) / "bin" / "python"
SECONDS = 90

pytestmark = pytest.mark.timeout(2 * SECONDS)


async def run(shared: Shared, program: str, *arguments: str) -> Any:
    """What a program prints, from JSON; it must succeed."""
    command = "node" if program.endswith(".mjs") else str(PYTHON)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDLINE_", "OPENAI_"))}
    process = await asyncio.create_subprocess_exec(
        *(command, str(HERE / program), *arguments),
        env={**clean, "BASE_URL": f"{shared.server.url}/v1", "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, errors.decode()
    return json.loads(said)


def counted(tokens: int, text: str) -> bool:
    """Whether a text is what the model says in so many tokens."""
    return tokens == len(text.split())


async def test_the_node_sdk(shared: Shared) -> None:
    asked, streamed, over = (shared.prompt(f"tokens={n}") for n in (3, 5, 7))
    saw = await run(shared, "node_sdk.mjs", asked, streamed, over)
    assert counted(3, saw["plain"])
    assert saw["plain"] == saw["again"]
    assert counted(5, saw["streamed"])
    assert saw["streamed"] == saw["final"]
    assert "response.in_progress" == saw["kinds"][0]
    assert "response.completed" == saw["kinds"][-1]
    assert counted(7, saw["heard"])
    assert "completed" == saw["ended"]
    assert 1 == len(shared.calls(over))


async def test_the_vercel_ai_sdk(shared: Shared) -> None:
    asked, streamed = shared.prompt("tokens=3"), shared.prompt("tokens=5")
    saw = await run(shared, "ai_sdk.mjs", asked, streamed)
    assert counted(3, saw["plain"])
    assert "stop" == saw["reason"]
    assert counted(5, saw["streamed"])
    assert 12 == saw["usage"]["totalTokens"]
    assert [] == (saw["warnings"] or [])


async def test_the_agents_sdk_over_http_and_over_its_socket(shared: Shared) -> None:
    prompts = shared.prompt("tokens=3"), shared.prompt("tokens=5")
    saw = await run(shared, "agents_sdk.py", *prompts)
    assert counted(3, saw["http"]["output"])
    assert counted(5, saw["socket"]["output"])
    assert ["response.completed"] * 2 == [saw[way]["last"] for way in ("http", "socket")]
    for prompt in prompts:
        messages = shared.calls(prompt)[0].body["messages"]
        assert ["Be brief.", prompt] == [message["content"] for message in messages]


async def test_langchain(shared: Shared) -> None:
    asked, streamed = shared.prompt("tokens=3"), shared.prompt("tokens=5")
    saw = await run(shared, "langchain_chat.py", asked, streamed)
    assert counted(3, saw["plain"])
    assert counted(5, saw["streamed"])
    assert (7, 3) == (saw["usage"]["input_tokens"], saw["usage"]["output_tokens"])
