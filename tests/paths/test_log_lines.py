"""Tests every line that a running system logs: its format, level, fields and ids."""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.documents import WATCH, first_words, rows_of, section, table, words
from tests.paths.sockets import TERMINAL, socket, until
from tests.system import Process, System, run_command, wait_until

# The test starts several processes, each of which needs seconds on shared cores.
pytestmark = pytest.mark.timeout(240)
ALWAYS = {"event", "level", "timestamp"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
TRACE_ID = re.compile(r"[0-9a-f]{32}")
TRACE = "0af7651916cd43dd8448eb211c80319c"
SECRET = "the-secret-word"


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


def levels(program: str) -> dict[str, set[str]]:
    """Returns the documented levels of each line of a program."""
    half = section(WATCH, "Log lines").split("A worker logs:")[program == "worker"]
    return {words(row[0])[0]: set(row[1].split(", ")) for row in rows_of(half)}


def lines_of(process: Process) -> list[dict[str, Any]]:
    """Returns the lines of a process. Each of them must be a JSON object."""
    return [json.loads(line) for line in process.output.splitlines()]


async def test_every_line_of_a_system_has_the_documented_form(
    system: System, model: FakeModel
) -> None:
    system.environ |= {
        "HOLDLINE_REQUEST_LOG": "on",
        "HOLDLINE_WEBHOOK_URL": "http://127.0.0.1:9/hook",  # nothing listens on this port
        "HOLDLINE_WEBHOOK_SECRET": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
        "HOLDLINE_ON_ORPHAN": "cancel",
    }
    server = await system.server()
    workers = [await system.worker(model.url)]
    async with sdk(server) as client:

        async def ask(prompt: str) -> str:
            response = await client.responses.create(
                input=f"{prompt} {SECRET}",
                model="m",
                background=True,
                extra_headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"},
            )
            return response.id

        async def end(id_: str) -> None:
            async for _ in await client.responses.retrieve(id_, stream=True):
                pass

        killed = await ask("mode=slow tokens=30 pace=0.03")
        await wait_until(lambda: model.calls and model.calls[-1].sent)
        await workers[0].kill()
        workers.append(await system.worker(model.url, HOLDLINE_SHUTDOWN_GRACE_SECONDS="0"))
        ids = [killed, await ask("tokens=5"), await ask("mode=busy"), await ask("mode=badjson")]
        for id_ in ids:
            await end(id_)
        returned = await ask("mode=until")
        await wait_until(lambda: model.calls[-1].sent)
        workers[-1].popen.terminate()
        await workers[-1].wait()
        await client.responses.cancel(returned)
        with pytest.raises(Exception, match="max_output_tokens"):
            await client.responses.create(input=SECRET, model="m", max_output_tokens=-1)
    workers.append(await system.worker(model.url))
    async with socket(server) as ws:
        await ws.send_json({"type": "response.create", "input": f"tokens=2 {SECRET}", "model": "m"})
        await until(ws, *TERMINAL)
        await ws.send_json({"type": SECRET})
        await until(ws, "error")
    server.popen.terminate()
    await server.wait()

    documented = ALWAYS | set(first_words(table(WATCH, "Log fields")))
    traces = defaultdict(set)
    for program, process in [("server", server), *(("worker", one) for one in workers)]:
        known = levels(program)
        for line in lines_of(process):
            event = line["event"]
            assert ALWAYS <= line.keys() <= documented, line
            assert line["level"] in known[event], line
            assert TIMESTAMP.fullmatch(line["timestamp"])
            if line.get("response_id"):
                assert TRACE_ID.fullmatch(line["trace_id"]), line
                traces[line["response_id"]].add(line["trace_id"])
            # A line about an attempt, a request or a webhook belongs to a response or a trace.
            assert "attempt" not in line or line["response_id"], line
            assert "route" not in line or line["trace_id"], line
        assert SECRET not in process.output
    assert {(TRACE,)} == {tuple(traces[id_]) for id_ in [*ids, returned]}
    said = {line["event"] for one in workers for line in lines_of(one)}
    # The test makes a worker log lines of each kind, including those of a job without a request.
    assert {
        "model call attempt ended",
        "rescued jobs: their workers were lost, or their retries were due",
        "job returned to the queue",
        "webhook attempt failed",
    } <= said


@pytest.mark.parametrize(
    ("form", "level", "expected"),
    [("text", "info", "worker ready"), ("json", "info", '"event": "worker ready"')],
)
async def test_the_format_can_be_chosen(
    system: System, model: FakeModel, form: str, level: str, expected: str
) -> None:
    worker = await system.worker(model.url, HOLDLINE_LOG_FORMAT=form, HOLDLINE_LOG_LEVEL=level)
    assert expected in worker.output
    assert "\x1b" not in worker.output  # no colours, because the output is not a terminal


async def test_lines_below_the_level_are_not_written(system: System) -> None:
    server = await system.server(HOLDLINE_LOG_LEVEL="warning")
    server.popen.terminate()
    await server.wait()
    assert "" == server.output


async def test_a_message_of_a_library_is_a_line_without_its_values() -> None:
    code = f"""
import logging
from runtime import logs

logs.configure("json")
logging.getLogger("lib").warning("failed to read %s", "{SECRET}")
try:
    raise ValueError("{SECRET}")
except ValueError:
    logging.getLogger("asyncio").exception("Exception in callback f('{SECRET}')\\nhandle: x")
logging.getLogger("lib").info("not written")
"""
    output = await run_command(sys.executable, "-c", code)
    first, second = map(json.loads, output.splitlines())
    assert SECRET not in output
    assert ("lib", "failed to read", "warning") == (
        first["library"],
        first["reason"],
        first["level"],
    )
    assert ("asyncio", "Exception in callback f", "ValueError", "error") == (
        second["library"],
        second["reason"],
        second["error"],
        second["level"],
    )
