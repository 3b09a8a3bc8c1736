"""What the documents say is true: tables against the code, examples against a system."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from itertools import pairwise
from math import inf, nextafter
from pathlib import Path
from textwrap import indent
from typing import Any

import aiohttp
import pytest

import worker.config
from dev.__main__ import ENVIRONMENT
from jobs.names import Partition
from jobs.scripts import SCRIPTS
from jobs.settings import ConfigError, markdown
from jobs.settings_table import SETTINGS
from server.api import request as requests
from server.api.close_codes import CloseCode
from server.api.failures import FAILURES
from server.api.problem import STANDARD_CODES, Problem
from server.config import Config
from server.metrics import Metrics
from tests.paths.conftest import Shared
from worker.outcome import CAUSES, Then

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
REDIS = (ROOT / "docs/redis.md").read_text()
CLIENT = (ROOT / "docs/client.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ADDRESS = "http://127.0.0.1:8080"


def section(document: str, heading: str) -> str:
    """What stands under a heading."""
    return document.split(f"\n## {heading}\n")[1].split("\n## ", maxsplit=1)[0]


def rows_of(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    lines = text.splitlines()
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line, following in pairwise([*lines, ""])
        if line.startswith("| ") and not following.startswith("|---")
    ]
    assert rows, "no table"
    return rows


def table(document: str, heading: str) -> list[list[str]]:
    return rows_of(section(document, heading))


def words(cell: str) -> list[str]:
    """What is quoted as code in a cell."""
    found: list[str] = re.findall(r"`([^`]+)`", cell)
    return found


def first_words(rows: list[list[str]]) -> list[str]:
    """What the first column names."""
    return [word for row in rows for word in words(row[0])]


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a language; "" is that of those which name none."""
    fenced = re.split(r"^```(.*)\n", document, flags=re.MULTILINE)
    # Text, opening, block, closing, text, opening, ...
    return [
        block for name, block in zip(fenced[1::4], fenced[2::4], strict=True) if name == language
    ]


def calls(folder: str) -> Iterator[ast.Call]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield node


def constant(call: ast.Call, place: int) -> Any:
    argument = call.args[place] if place < len(call.args) else None
    return argument.value if isinstance(argument, ast.Constant) else None


# Tables


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    dev = set(re.findall(r"HOLDLINE_[A-Z_]+", ENVIRONMENT))
    named = {n for d in DOCUMENTS for n in re.findall(r"\bHOLDLINE_[A-Z_]+", d.read_text())}
    assert set() == named - SETTINGS.keys() - dev
    assert f"\n\n{markdown()}\n\n" in section(OPERATING, "Settings"), "run python -m jobs.settings"


GIVEN = {"OPENAI_API_KEY": "any"}
NUMBERS = [row for row in table(OPERATING, "Settings") if row[2]]


@pytest.mark.parametrize(("name", "default", "limits"), [(*row[:3],) for row in NUMBERS])
def test_the_documented_default_and_limits_are_those_of_the_code(
    name: str, default: str, limits: str
) -> None:
    name = name.strip("`")
    least, most = limits.split(", ")

    def read(**environ: str) -> tuple[Config, worker.config.Config]:
        return Config.from_environ(environ), worker.config.load(GIVEN | environ)

    assert read() == read(**{name: default})
    for bound in {least, most} - {default}:
        assert read() != read(**{name: bound})
    for beyond in (nextafter(float(least), -inf), nextafter(float(most), inf)):
        with pytest.raises(ConfigError, match=name):
            read(**{name: str(beyond)})


def test_every_code_of_a_refusal_is_documented_with_its_status() -> None:
    coded: set[tuple[str, str]] = set()
    for call in calls("server"):
        match call.func:
            # `http_error` has the status that HTTP itself gives it.
            case ast.Name("Problem") if constant(call, 1) and constant(call, 0):
                coded.add((constant(call, 1), str(constant(call, 0))))
            case ast.Name("invalid"):
                coded.add((constant(call, 2) or "invalid_value", "400"))
            case _:
                pass
    coded |= {("not_found", "404"), ("method_not_allowed", "405")}  # server.app, of aiohttp's own
    rows = table(PROTOCOL, "Errors")
    assert sorted(coded) == sorted((words(row[0])[0], row[2]) for row in rows)
    assert dict(STANDARD_CODES) == {
        words(row[0])[0]: words(row[1])[0] for row in rows if row[1] != "the same"
    }


def test_a_status_is_named_with_the_code_of_the_wire() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        codes = re.findall(r"\b[45]\d\d `(\w+)`(?: \(`(\w+)`\))?", page.read_text())
        assert not {code for code, _ in codes} & STANDARD_CODES.keys(), page
        for code, ours in codes:
            assert not ours or STANDARD_CODES[ours] == code, page


def test_every_command_of_redis_is_in_the_list_for_a_user_of_its_own() -> None:
    [line] = [line for line in OPERATING.splitlines() if line.startswith("A user of its own (ACL)")]
    listed = {word.partition("|")[0] for word in re.findall(r"`([a-z|]+)`", line)}
    sent: set[str] = set()
    for script in SCRIPTS.values():
        sent |= set(re.findall(r"redis\.p?call\('([A-Z]+)'", script.source.decode()))
    for folder in ("admin", "jobs", "server", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            sent |= set(re.findall(r"""\.(?:call|ask)\(\s*"([A-Z]+)\"""", path.read_text()))
    assert {command.lower() for command in sent} - {"sentinel"} <= listed


def test_every_cause_is_documented_with_what_follows() -> None:
    rows = table(PROTOCOL, "Why a response failed or waits")
    assert {name: cause.then for name, cause in CAUSES.items()} == {
        words(row[0])[0]: Then(row[1]) for row in rows
    }


def test_every_error_code_of_a_failed_response_is_documented() -> None:
    rows = table(PROTOCOL, "Error codes of failed responses")
    assert {
        cause: (failure.code, str(failure.status), "yes" if failure.retry else "no")
        for cause, failure in FAILURES.items()
    } == {words(row[0])[0]: (words(row[1])[0], row[2], row[3]) for row in rows}


def test_every_close_code_is_documented_with_its_band() -> None:
    rows = table(PROTOCOL, "Close codes")
    advice = {int(code): row[1] for row in rows for code in row[0].split(", ")}
    assert {code: code.come_back for code in CloseCode} == {
        code: advice[code].startswith("yes") for code in CloseCode
    }
    assert {int(code) for code in CloseCode} >= {code for code in advice if code >= 4000}


def test_every_message_is_documented() -> None:
    sent = set(first_words(table(PROTOCOL, "Messages of the server")))
    received = set(first_words(table(PROTOCOL, "Messages of the client")))
    assert set(requests._KINDS) == received
    written: set[str] = set()
    for folder in ("jobs", "server"):
        for path in (ROOT / folder).rglob("*.py"):
            written |= set(re.findall(r'"(holdline:[a-z]+)"', path.read_text()))
    assert written - received == sent - {"error"}
    lines = "".join(blocks(PROTOCOL, "json")).splitlines()
    shown = {event["type"] for event in map(json.loads, lines) if "type" in event}
    assert sent | received <= shown


def test_every_parameter_is_documented_with_the_values_that_are_accepted() -> None:
    parts = section(PROTOCOL, "Parameters").split("\nNeutral: ")
    supported, neutral_rows = map(rows_of, parts)
    assert set(requests.Create.__struct_fields__) == set(first_words(supported))
    neutral = {words(row[0])[0]: row[1] for row in neutral_rows}
    assert set(requests._NEUTRAL) == set(neutral)
    for name, cell in neutral.items():
        documented = [json.loads(value) for value in words(cell)]
        assert list(requests._NEUTRAL[name]) == documented, name
        for value in [None, *documented]:
            requests.parse_create({"input": "x", name: value})
        with pytest.raises(Problem, match=name):
            requests.parse_create({"input": "x", name: "no such value"})


def test_every_script_and_every_key_is_documented() -> None:
    assert sorted(SCRIPTS) == sorted(first_words(table(REDIS, "Scripts")))
    keys = rows_of(section(REDIS, "Keys").split("The fields of a job")[0])
    names = Partition(0)
    made = [
        *(names.job("x"), names.log("x"), names.notifications("x"), names.idempotency("x", "y")),
        *(
            names.waiting_prefix,
            names.ready,
            names.idle,
            names.followed,
            names.queues,
            names.wake,
            names.leases,
            names.delayed,
            names.open,
        ),
        *(names.dead, names.numbers, names.cancels, names.epoch, names.claimed("x")),
        *(names.hook("x"), names.hooks, names.api_keys, names.cipher),
        *(names.tenant("x"), names.running("x"), names.held("x")),
        *(names.open_of("x"), names.rate("x"), names.used("x", 1)),
        *(names.pause("x"), names.pace("x"), names.replies("x", "y")),
        names.turn("x"),
        names.probe("x"),
    ]
    public = [name for name in dir(names) if not name.startswith("_")]
    assert len(public) == len(made) + len(("number", "prefix")), "a key that this test misses"
    kinds = {name.removeprefix(names.prefix).partition(":")[0] for name in made}
    assert kinds == {name.partition(":")[0] for name in first_words(keys)}


def test_every_metric_is_documented() -> None:
    exposed = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in Metrics().registry.collect()
    }
    assert exposed == set(first_words(table(OPERATING, "Metrics")))


@pytest.mark.parametrize(("folder", "nth"), [("server", 0), ("worker", 1)])
def test_every_log_line_is_documented(folder: str, nth: int) -> None:
    said: set[str] = set()
    for call in [*calls(folder), *calls("jobs"), *calls("runtime")]:
        match call.func:
            case ast.Attribute(ast.Name("log") | ast.Attribute(attr="_log"), level):
                said.add(constant(call, 1 if level == "log" else 0))
            case _:
                pass
    said -= {None}
    half = section(OPERATING, "Log lines").split("Of a worker:")[nth]
    assert said == {words(row[0])[0] for row in rows_of(half)}


# Links and blocks


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in anchors, target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_parse(document: Path) -> None:
    text = document.read_text()
    for block in blocks(text, "python"):
        ast.parse(block)
    for block in blocks(text, "json"):
        for line in block.splitlines():
            json.loads(line)


def test_the_models_file_that_is_shown_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    path.write_text("".join(blocks(OPERATING, "toml")))
    environ = {"HOLDLINE_MODELS": str(path), "OPENAI_API_KEY": "a", "LARGE_KEY": "b"}
    config = worker.config.load(environ)
    ending = ["gpt-4.1", "gemini", "mounted"]
    assert ["fast", "large", "gpt-4.1-mini", *ending] == list(config.endpoints)
    assert ["fast", "large", "gpt-4.1-mini"] == [each.name for each in config.routes(None)]
    assert ["chat", "responses", "chat"] == [each.api for each in config.routes(None)]
    server = Config.from_environ(environ)
    assert ("fast", "large") == (server.catalog.default, server.templates["translate"].model)


# What is run

# The first one starts the system, and the SDK takes seconds to be imported on a busy machine.
to_be_run = pytest.mark.timeout(60)


async def run(*command: str) -> str:
    """What a command prints; it must succeed."""
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


@to_be_run
async def test_the_readmes_curl_streams_an_answer(shared: Shared) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is missing")
    (script,) = (block for block in blocks(README, "sh") if block.startswith("curl"))
    output = await run("bash", "-c", script.replace(ADDRESS, shared.server.url))
    kinds = re.findall(r"^event: (.+)$", output, re.MULTILINE)
    assert ("response.created", "response.completed") == (kinds[0], kinds[-1])
    assert output.endswith("data: [DONE]\n\n")


@to_be_run
async def test_the_readmes_sdk_example_prints_the_answer(shared: Shared) -> None:
    program, _ = blocks(README, "python")
    # "Later" is when the answer has begun; a cursor beyond the end of a log is refused.
    begun = "while not client.responses.retrieve(answer.id).output: pass\n# Later"
    program = program.replace("# Later", begun)
    output = await run(sys.executable, "-c", program.replace(ADDRESS, shared.server.url))
    assert re.fullmatch(r"(c\d+t\d+ ){20}", output)


@to_be_run
async def test_the_readmes_client_example_prints_the_answer(shared: Shared) -> None:
    _, program = blocks(README, "python")
    output = await run(sys.executable, "-c", program.replace(ADDRESS, shared.server.url))
    assert re.fullmatch(r"(c\d+t\d+ ){20}", output)


@to_be_run
async def test_the_clients_examples_run_as_written(shared: Shared) -> None:
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


@to_be_run
async def test_the_checksum_is_verified_as_the_protocol_says(shared: Shared) -> None:
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


@to_be_run
async def test_the_readmes_socket_session_goes_as_written(shared: Shared) -> None:
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
    """The next event, which is what the line says. Deltas may be many, and news of the wait come
    in between; nothing else is passed over, except before the end.
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
