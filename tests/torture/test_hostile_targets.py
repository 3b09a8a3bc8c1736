"""Runs cases against servers that answer in wrong ways: the cases must fail, and not the suite."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.system import wait_until
from tests.torture.hostile import WAYS
from torture import html_report, json_report
from torture.errors import StartError
from torture.process import MAX_LINE_CHARACTERS, MAX_LINES
from torture.redaction import REDACTED
from torture.result import Report, Verdict
from torture.runner import Runner, plan
from torture.target import load

# The ways that are also tested in the gate.
QUICK = ("wrong_types", "odd_events")
TARGET = """\
name = "Hostile"
about = "Answers each request in one wrong way."
home = "https://example.com"

[parameters]
command = "{program}"
way = "nothing"

[model]
name = "simulation"

[client]
routes = [
    "responses", "stream", "background", "resume", "cancel", "conversations", "websocket",
    "chat_completions",
]

[limits]
answer_seconds = 1
recovery_seconds = 1
cancel_seconds = 1
stall_seconds = 1

[[process]]
name = "server"
roles = ["server", "worker"]
start = ["{python}", "{parameter:command}", "{port}", "{parameter:way}", "{folder}"]
url = "http://127.0.0.1:{port}/v1"
ready = {READY}
ready_seconds = 60
can = ["kill", "freeze", "restart"]
"""
TCP = '{ tcp = "127.0.0.1:{port}" }'


def target_file(tmp_path: Path, ready: str = TCP, program: str = "hostile.py") -> Path:
    path = tmp_path / "hostile.toml"
    place = str(Path(__file__).parent / program)
    path.write_text(TARGET.replace("{READY}", ready).replace('"{program}"', f'"{place}"'))
    return path


async def run(path: Path, way: str, *globs: str) -> Report:
    target = load(path, {"way": way})
    return await Runner(target, 1, path.parent / "install", run_all=True).run(plan(target, globs))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "way",
    [pytest.param(way, marks=[] if way in QUICK else pytest.mark.heavy) for way in WAYS],
)
async def test_a_hostile_server_fails_cases_and_never_the_suite(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torture.client._REQUEST_SECONDS", 1)
    # One case of each way to talk to a server. The shortest ones, because each fails by a deadline.
    globs = (
        *("stream.complete", "stream.many", "foreground.complete", "background.accepted"),
        *("resume.reload", "resume.many", "duplicate.sdk_retry", "cancel.running.poll"),
        *("truncation.cut.*", "kill.server.middle.*", "conversation.context"),
        *("websocket.lanes", "chat.stream", "chat.complete"),
    )
    report = await run(target_file(tmp_path), way, *globs)
    for result in report.results:
        assert "Traceback" not in result.reason, (result.case.id, result.reason)
        assert result.seconds < 60
    passed = [r.case.id for r in report.results if r.if_claimed is Verdict.PASSED]
    # Only cases that do not require an answer may pass.
    assert all(case.startswith("truncation.") for case in passed), passed


@pytest.mark.parametrize(
    ("ready", "program", "message"),
    [
        (TCP, "no_such_file.py", "server ended with status 2; its last output:\n.*no_such_file"),
        (
            '{ http = "http://127.0.0.1:{port}/ready" }',
            "hostile.py",
            r"not ready after 5 s: GET \S+/ready is answered with the status 500; it has printed",
        ),
        (
            '{ output = "never" }',
            "hostile.py",
            "is not ready after 5 s: its output does not match 'never'",
        ),
    ],
)
async def test_a_target_that_does_not_start_ends_the_run_with_its_output(
    tmp_path: Path, ready: str, program: str, message: str
) -> None:
    path = target_file(tmp_path, ready, program)
    path.write_text(path.read_text().replace("ready_seconds = 60", "ready_seconds = 5"))
    with pytest.raises(StartError, match=message):
        await run(path, "errors", "stream")


async def test_a_report_has_the_output_of_each_process_without_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ("credential-of-the-target", "sk-of-the-target", "pass-of-the-target")
    monkeypatch.setenv("TORTURE_TEST_CREDENTIAL", keys[0])
    path = target_file(tmp_path)
    client = '[client]\napi_key = "{env:TORTURE_TEST_CREDENTIAL}"'
    path.write_text(path.read_text().replace("[client]", client))
    report = await run(path, "echo", "stream.complete", "foreground.complete")
    for result in report.results:
        printed = result.output["server"]
        assert f"POST /v1/responses Bearer {REDACTED}" in printed
        assert f"connected to redis://{REDACTED}@127.0.0.1 with {REDACTED}" in printed
        assert len(printed) <= MAX_LINES
        assert max(map(len, printed)) <= MAX_LINE_CHARACTERS
    html, data = tmp_path / "report.html", tmp_path / "report.json"
    html_report.write(report, html)
    json_report.write(report, data)
    for written in (html.read_text(), data.read_text()):
        assert REDACTED in written
        assert [] == [key for key in keys if key in written]


async def test_setup_commands_run_again_only_after_a_change(tmp_path: Path) -> None:
    path = target_file(tmp_path)
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write('x')"
    log = tmp_path / "log"
    setup = f'[setup]\ncommands = [["{sys.executable}", "-c", "{script}", "{log}"]]\n'
    path.write_text(path.read_text() + setup + 'files = ["lock"]\n')
    for lock, runs in (("1", "x"), ("1", "x"), ("2", "xx")):
        (tmp_path / "lock").write_text(lock)
        await run(path, "errors", "background.unknown")
        assert runs == log.read_text()


async def test_a_setup_command_that_fails_ends_the_run(tmp_path: Path) -> None:
    path = target_file(tmp_path)
    path.write_text(path.read_text() + f'[setup]\ncommands = [["{sys.executable}", "nothing"]]\n')
    with pytest.raises(StartError, match="nothing"):
        await run(path, "errors", "background.unknown")


async def test_a_run_leaves_no_process_and_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: str(folder))
    task = asyncio.create_task(run(target_file(tmp_path), "nothing", "stream.complete"))
    await wait_until(lambda: list(folder.glob("*.log")))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not folder.exists()
    marker = str(folder).encode()
    running = [p for p in Path("/proc").glob("[0-9]*/cmdline") if marker in _read(p)]
    assert [] == running


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_verdicts_have_an_order_in_tables() -> None:
    from torture.results import _ORDER

    assert set(_ORDER) == {str(verdict) for verdict in Verdict}


@pytest.mark.parametrize(
    ("served", "message"),
    [
        ("/v1/responses", r"status 404, and POST \S+/v1/responses with 400: .* lacks /v1"),
        ("", r"/responses cannot be reached"),
    ],
)
async def test_a_wrong_base_url_ends_the_run(tmp_path: Path, served: str, message: str) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=400)

    app = web.Application()
    app.router.add_post(served or "/", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        if not served:
            await server.close()
        path = tmp_path / "mine.toml"
        head, _, _ = TARGET.partition("[limits]")
        path.write_text(head.replace("[client]", f'[client]\nurls = ["{url}"]'))
        with pytest.raises(StartError, match=message):
            await run(path, "errors", "stream.complete", "foreground")
