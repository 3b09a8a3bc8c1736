"""Cuts the connection of each front end after every event: the answer must still be complete.

Each run asks for the same answer through a proxy of its own, which resets the connection after a
number of events. The model must be called once for each run, and each front end must show the text
with the checksum in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.frontends.cutting import CuttingProxy
from tests.node import node_22
from tests.paths.conftest import Shared
from tests.system import clean_environ

HERE = Path(__file__).parent
NODE = node_22() or "node"
SECONDS = 120.0
ANSWER = "It scatters blue."
# Each character is a token, and each token an event, because the worker writes it before the next.
PROMPT = f"say={ANSWER.replace(' ', '_')} pace=0.04"
SHA256 = hashlib.sha256(ANSWER.encode()).hexdigest()
# More events than any stream has: one for each token, those around the text, and comments.
EVENTS = len(ANSWER) + 24

pytestmark = pytest.mark.timeout(2 * SECONDS)


async def node(program: str, *arguments: str) -> Any:
    """Runs a program for Node.js, which must succeed in time, and returns its JSON output."""
    process = await asyncio.create_subprocess_exec(
        *(NODE, str(HERE / program), *arguments),
        env=clean_environ(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, errors.decode()
    return json.loads(output)


async def cut_everywhere(shared: Shared, program: str, *arguments: str) -> list[Any]:
    """Runs a program with a proxy for each place of a cut, and returns what it saw each time."""
    prompt = shared.prompt(PROMPT)
    port = int(shared.server.url.rpartition(":")[2])
    async with contextlib.AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(CuttingProxy(port, events)) for events in range(EVENTS)
        ]
        runs = await node(program, *arguments, prompt, *(proxy.url for proxy in proxies))
    # The last places are behind the end of the stream, so there was a cut after every event. The
    # streams differ in their comments, and on a busy machine in the tokens of an event.
    assert 0 == proxies[-1].cuts
    assert all(proxy.cuts or proxy.seen < number for number, proxy in enumerate(proxies))
    assert len(ANSWER) // 2 < sum(proxy.cuts for proxy in proxies)
    for number, run in enumerate(runs):
        assert 1 == len(shared.calls(f"{prompt} run={number}")), number
        assert (ANSWER, SHA256) == (run["text"], run["sha256"]), number
    return list(runs)


async def test_our_client_notices_no_cut(shared: Shared) -> None:
    runs = await cut_everywhere(shared, "ours.mjs")
    assert {("completed", SHA256)} == {(run["status"], run["promised"]) for run in runs}


async def test_use_chat_with_our_transport_notices_no_cut(shared: Shared) -> None:
    runs = await cut_everywhere(shared, "ai_sdk.mjs", "holdline")
    assert {("ready", 0, SHA256)} == {
        (run["status"], run["resumed"], run["promised"]) for run in runs
    }


@pytest.mark.parametrize("transport", ["default", "reload"])
async def test_use_chat_with_its_own_transport_resumes_after_each_cut(
    shared: Shared, transport: str
) -> None:
    runs = await cut_everywhere(shared, "ai_sdk.mjs", transport)
    assert {("ready", SHA256)} == {(run["status"], run["promised"]) for run in runs}
    assert "error" == runs[5]["first"]


async def test_the_documented_program_with_fetch_resumes_after_each_cut(shared: Shared) -> None:
    await cut_everywhere(shared, "fetch.mjs")


async def test_an_agent_of_ag_ui_with_our_fetch_notices_no_cut(shared: Shared) -> None:
    runs = await cut_everywhere(shared, "ag_ui.mjs", "holdline")
    assert {(0, SHA256)} == {(run["resumed"], run["promised"]) for run in runs}


@pytest.mark.parametrize("kind", ["default", "reload"])
async def test_an_agent_of_ag_ui_repeats_its_run_after_each_cut(shared: Shared, kind: str) -> None:
    runs = await cut_everywhere(shared, "ag_ui.mjs", kind)
    assert {SHA256} == {run["promised"] for run in runs}
    assert 1 == runs[5]["resumed"]
