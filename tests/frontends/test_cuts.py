"""Cuts the connection of each front end after every event: the answer must still be complete.

Each run asks for the same answer through a proxy of its own, which resets the connection after a
number of events. The model must be called once for each run, and each front end must show the text
with the checksum in the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.frontends.cutting import ANSWER, SCRIPT, SHA256, cut_everywhere
from tests.node import node_22
from tests.paths.conftest import Shared
from tests.system import ROOT, clean_environ

HERE = Path(__file__).parent
DOCUMENT = (ROOT / "docs/frontends.md").read_text()
NODE = node_22() or "node"
SECONDS = 120.0

pytestmark = pytest.mark.timeout(2 * SECONDS)


async def run_program(*command: str) -> str:
    """Runs a program, which must succeed in time, and returns its output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=clean_environ() | {"COPILOTKIT_TELEMETRY_DISABLED": "true"},
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
    return output.decode()


async def answers(shared: Shared, program: str, *arguments: str) -> list[Any]:
    """Runs a program with a proxy for each place of a cut, and returns what it saw each time."""
    prompt = shared.prompt(SCRIPT)
    async with cut_everywhere(shared.server.url) as proxies:
        urls = [proxy.url for proxy in proxies]
        runs = json.loads(await run_program(NODE, str(HERE / program), *arguments, prompt, *urls))
    for number, run in enumerate(runs):
        assert 1 == len(shared.calls(f"{prompt} run={number}")), number
        assert (ANSWER, SHA256) == (run["text"], run["sha256"]), number
    return list(runs)


async def test_our_client_notices_no_cut(shared: Shared) -> None:
    runs = await answers(shared, "ours.mjs")
    assert {("completed", SHA256)} == {(run["status"], run["promised"]) for run in runs}


async def test_use_chat_with_our_transport_notices_no_cut(shared: Shared) -> None:
    runs = await answers(shared, "ai_sdk.mjs", "holdline")
    assert {("ready", 0, SHA256)} == {
        (run["status"], run["resumed"], run["promised"]) for run in runs
    }


@pytest.mark.parametrize("transport", ["default", "reload"])
async def test_use_chat_with_its_own_transport_resumes_after_each_cut(
    shared: Shared, transport: str
) -> None:
    runs = await answers(shared, "ai_sdk.mjs", transport)
    assert {("ready", SHA256)} == {(run["status"], run["promised"]) for run in runs}
    assert "error" == runs[5]["first"]


async def test_the_documented_program_with_fetch_resumes_after_each_cut(shared: Shared) -> None:
    await answers(shared, "fetch.mjs")


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
async def test_the_documented_script_with_curl_resumes_after_each_cut(shared: Shared) -> None:
    (script,) = re.findall(r"^## curl\n.*?```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    prompt = shared.prompt(SCRIPT)
    async with cut_everywhere(shared.server.url) as proxies:
        scripts = [
            script.replace("http://127.0.0.1:8080", proxy.url).replace(
                "Why is the sky blue?", f"{prompt} run={number}"
            )
            for number, proxy in enumerate(proxies)
        ]
        texts = await asyncio.gather(*(run_program("bash", "-c", each) for each in scripts))
    for number, text in enumerate(texts):
        assert 1 == len(shared.calls(f"{prompt} run={number}")), number
        assert SHA256 == hashlib.sha256(text.encode()).hexdigest(), number


@pytest.mark.parametrize("kind", ["holdline", "socket"])
async def test_an_agent_of_ag_ui_with_our_fetch_notices_no_cut(shared: Shared, kind: str) -> None:
    runs = await answers(shared, "ag_ui.mjs", kind)
    assert {(0, SHA256)} == {(run["resumed"], run["promised"]) for run in runs}


@pytest.mark.parametrize("kind", ["default", "reload"])
async def test_an_agent_of_ag_ui_repeats_its_run_after_each_cut(shared: Shared, kind: str) -> None:
    runs = await answers(shared, "ag_ui.mjs", kind)
    assert {SHA256} == {run["promised"] for run in runs}
    assert 1 == runs[5]["resumed"]


@pytest.mark.heavy
async def test_the_runtime_of_copilotkit_notices_no_cut(shared: Shared) -> None:
    runs = await answers(shared, "copilotkit.mjs")
    assert {SHA256} == {run["promised"] for run in runs}


def test_the_document_names_the_tested_versions() -> None:
    lock = json.loads((HERE / "package-lock.json").read_text())["packages"]
    named = re.findall(r"`(@?[\w/-]+)` (\d+\.\d+\.\d+)", DOCUMENT.partition("## Tests")[2])
    tested = [(name, lock[f"node_modules/{name}"]["version"]) for name, _ in named]
    assert tested == named
    assert len(named) >= 8
