"""The examples of the README and the client document run as printed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from textwrap import indent
from typing import Any

import aiohttp
import pytest

from tests.paths.conftest import Shared
from tests.paths.documents import ADDRESS, CLIENT, PROTOCOL, README, blocks, table


async def run(*command: str) -> str:
    """Runs a command, which must succeed, and returns its output."""
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=clean
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, errors.decode()
    return output.decode()


async def test_the_curl_command_of_the_readme_streams_an_answer(shared: Shared) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (script,) = (block for block in blocks(README, "sh") if block.startswith("curl"))
    output = await run("bash", "-c", script.replace(ADDRESS, shared.server.url))
    kinds = re.findall(r"^event: (.+)$", output, re.MULTILINE)
    assert ("response.created", "response.completed") == (kinds[0], kinds[-1])
    assert output.endswith("data: [DONE]\n\n")


async def test_the_sdk_example_of_the_readme_prints_the_answer(shared: Shared) -> None:
    program, _ = blocks(README, "python")
    # "Later" means after the answer has started: a cursor beyond the end of the log is rejected.
    begun = "while not client.responses.retrieve(answer.id).output: pass\n# Later"
    program = program.replace("# Later", begun)
    output = await run(sys.executable, "-c", program.replace(ADDRESS, shared.server.url))
    assert re.fullmatch(r"(c\d+t\d+ ){20}", output)


async def test_the_client_example_of_the_readme_prints_the_answer(shared: Shared) -> None:
    _, program = blocks(README, "python")
    output = await run(sys.executable, "-c", program.replace(ADDRESS, shared.server.url))
    assert re.fullmatch(r"(c\d+t\d+ ){20}", output)


async def test_the_examples_of_the_client_document_run(shared: Shared) -> None:
    head, *examples = blocks(CLIENT, "python")
    for example in examples:
        body = indent(example, " " * 8)
        using = f"    async with holdline_client.connect({shared.server.url!r}) as client:\n{body}"
        program = f"{head}\nasync def main():\n{using}\nasyncio.run(main())"
        await run(sys.executable, "-c", program)


def test_every_exit_code_of_the_command_is_documented() -> None:
    from holdline_client import __main__ as command

    documented = {int(row[0]) for row in table(CLIENT, "The command")}
    assert documented == {*range(7), command.INTERRUPTED, command.BROKEN_PIPE}


async def test_the_documented_checksum_example_verifies_a_response(shared: Shared) -> None:
    (program,) = blocks(PROTOCOL, "python")
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{shared.server.url}/v1/responses", json={"input": "Grüße"}) as answer,
    ):
        response = await answer.json()
    exec(program, {"response": response})
    response["output"][0]["content"][0]["text"] += " "
    with pytest.raises(AssertionError):
        exec(program, {"response": response})


async def test_the_socket_session_of_the_readme_matches_the_server(shared: Shared) -> None:
    (session,) = (block for block in blocks(README, "") if block.startswith("< "))
    response_id = ""
    async with aiohttp.ClientSession() as http:
        ws = await http.ws_connect(shared.server.ws_url)
        for line in session.splitlines():
            match line[:2]:
                case "> ":
                    await ws.send_json(json.loads(line[2:].replace("resp_...", response_id)))
                case "< ":
                    event = await matching(ws, line)
                    response_id = event.get("response", {}).get("id", response_id)
                case _:
                    assert "connect again" in line
                    await ws.close()
                    ws = await http.ws_connect(shared.server.ws_url)
        await ws.close()


async def matching(ws: aiohttp.ClientWebSocketResponse, line: str) -> dict[str, Any]:
    """Waits for the event that the line describes.

    Only `holdline:queued` events are skipped, and any event before the end of the response.
    """
    (kind,) = re.findall(r'"type":"([^"]+)"', line)
    number = re.findall(r'"sequence_number":(\d+)', line)
    while True:
        event: dict[str, Any] = await ws.receive_json(timeout=8)
        if event["type"] == kind:
            assert not number or int(number[0]) == event["sequence_number"]
            return event
        passed = event["type"] == "holdline:queued" or kind == "response.completed"
        assert passed, f"{event['type']} where {kind} is written"
