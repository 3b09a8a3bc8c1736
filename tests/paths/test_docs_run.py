"""Tests that the examples in the README and in the first documents run as printed."""

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

from tests.jobs.proxy import Proxy
from tests.paths.conftest import Shared
from tests.paths.documents import ADDRESS, CLIENT, PROTOCOL, README, START, blocks, table


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


async def test_the_sdk_example_of_the_first_steps_prints_the_answer(shared: Shared) -> None:
    program, _ = blocks(START, "python")
    # Wait until the answer has started: a cursor beyond the end of the log is rejected.
    begun = "while not client.responses.retrieve(answer.id).output: pass\n# Later"
    program = program.replace("# Later", begun)
    output = await run(sys.executable, "-c", program.replace(ADDRESS, shared.server.url))
    assert re.fullmatch(r"(c\d+t\d+ ){20}", output)


async def test_the_client_example_of_the_first_steps_prints_the_answer(shared: Shared) -> None:
    _, program = blocks(START, "python")
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


async def test_the_documented_conversation_prints_its_items(shared: Shared) -> None:
    _, _, program, *_ = blocks(PROTOCOL, "python")
    output = await run(
        sys.executable, "-c", program.replace("http://127.0.0.1:8080", shared.server.url)
    )
    assert ["user", "assistant"] * 2 == [line.split()[0] for line in output.splitlines()]


async def test_the_documented_compaction_prints_an_answer(shared: Shared) -> None:
    _, _, _, program, *_ = blocks(PROTOCOL, "python")
    output = await run(
        sys.executable, "-c", program.replace("http://127.0.0.1:8080", shared.server.url)
    )
    assert re.fullmatch(r"(c\d+t\d+ ){20}", output.rstrip("\n"))


async def test_the_documented_checksum_example_verifies_a_response(shared: Shared) -> None:
    *_, program = blocks(PROTOCOL, "python")
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{shared.server.url}/v1/responses", json={"input": "Grüße"}) as answer,
    ):
        response = await answer.json()
    exec(program, {"response": response})
    response["output"][0]["content"][0]["text"] += " "
    with pytest.raises(AssertionError):
        exec(program, {"response": response})


@pytest.mark.parametrize("document", [START, PROTOCOL], ids=["start", "protocol"])
async def test_the_documented_socket_session_matches_the_server(
    shared: Shared, document: str
) -> None:
    session = next(block for block in blocks(document, "") if block.startswith("> "))
    ids = {"resp_...": "", "msg_...": ""}
    shift: int | None = 0  # the number of events that the documented session omits; None if unknown
    async with aiohttp.ClientSession() as http:
        ws = await http.ws_connect(shared.server.ws_url)
        for line in session.splitlines():
            match line[:2]:
                case "> ":
                    message = re.sub(r"(?:resp|msg)_\.\.\.", lambda found: ids[found[0]], line[2:])
                    # Without pauses, the whole answer would be stored as a single delta.
                    message = message.replace("Why is the sky blue?", shared.prompt("pace=0.02"))
                    await ws.send_json(json.loads(message))
                case "< ":
                    event = await matching(ws, line)
                    if number := re.search(r'"sequence_number":(\d+)', line):
                        difference = event["sequence_number"] - int(number[1])
                        shift = difference if shift is None else shift
                        assert shift == difference
                    ids["resp_..."] = event.get("response", {}).get("id", ids["resp_..."])
                    ids["msg_..."] = event.get("item_id", ids["msg_..."])
                case _ if "connect again" in line:
                    await ws.close()
                    ws = await http.ws_connect(shared.server.ws_url)
                case _:
                    assert "more deltas" in line
                    shift = None
        await ws.close()


async def matching(ws: aiohttp.ClientWebSocketResponse, line: str) -> dict[str, Any]:
    """Waits for the event that a line of the document describes, and compares its fields.

    Only these events are skipped: `holdline:queued`, deltas before the end of the text, and events
    before the end of the response.
    """
    (kind,) = re.findall(r'^< {"type":"([^"]+)"', line)
    skipped = {
        "response.output_text.done": r"holdline:queued|response\.output_text\.delta",
        "response.completed": r"holdline:queued|response\..*",
    }.get(kind, "holdline:queued")
    while (event := await ws.receive_json(timeout=8))["type"] != kind:
        assert re.fullmatch(skipped, event["type"]), f"{event['type']} where {kind} is written"
    sent = set(re.findall(r'"(\w+)":', json.dumps(event)))
    assert set() == set(re.findall(r'"(\w+)":', line)) - sent
    found: dict[str, Any] = event
    return found


@pytest.mark.parametrize("fault", ["", "mode=eof times=1"], ids=["cut", "restarted"])
async def test_the_documented_socket_client_survives_a_cut_and_a_restart(
    shared: Shared, fault: str
) -> None:
    program, *_ = blocks(PROTOCOL, "python")
    prompt = shared.prompt(f"pace=0.05 {fault}")
    async with Proxy(shared.server.url) as proxy:
        address = proxy.url.replace("redis:", "ws:")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program.replace("ws://127.0.0.1:8080", address), prompt),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            output = await asyncio.wait_for(process.stdout.readuntil(b"t5 "), 20)
            proxy.reset()
            output += await asyncio.wait_for(process.stdout.read(), 20)
            assert 0 == await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert 2 == proxy.accepted
    *void, text, status, rest = re.split(r"\n", output.decode())
    assert ("completed", "") == (status, rest)
    assert bool(fault) == ("starts over" in "".join(void))
    assert [f"t{number}" for number in range(20)] == re.findall(r"t\d+", text)
    assert 1 == len(set(re.findall(r"c\d+", text)))
    assert len(shared.calls(prompt)) == 1 + bool(fault)


async def test_the_documented_sdk_program_resumes_after_a_reset(shared: Shared) -> None:
    _, program, *_ = blocks(PROTOCOL, "python")
    prompt = shared.prompt("pace=0.05")
    program = program.replace('"Why is the sky blue?"', repr(prompt))
    async with Proxy(shared.server.url) as proxy:
        address = proxy.url.replace("redis:", "http:")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program.replace("http://127.0.0.1:8080", address)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            output = await asyncio.wait_for(process.stdout.readuntil(b"t5 "), 20)
            proxy.reset()
            output += await asyncio.wait_for(process.stdout.read(), 20)
            assert 0 == await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert 2 == proxy.accepted
    assert [f"t{number}" for number in range(20)] == re.findall(r"t\d+", output.decode())
    assert 1 == len(shared.calls(prompt))
