"""Tests the exit status of each command: scripts and systemd recognize invalid settings by it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from runtime.command_line import FAILED, INTERRUPTED, INVALID_SETTINGS, USAGE
from tests import commands
from tests.paths.documents import OPERATING, table
from tests.system import clean_environ, free_port, run_module

# A start takes seconds of processor time, on cores that are shared with other tests.
pytestmark = pytest.mark.timeout(180)
# No Redis listens there.
ENVIRON = {"REDIS_URL": "redis://127.0.0.1:1/0", "OPENAI_API_KEY": "any"}
PROGRAMS = ["server", "worker", "up"]
COMMANDS = [
    "check",
    "probe server",
    "status",
    "cancel resp_1",
    "keys list",
    "signers list",
    "tenants show acme",
    "subject hash acme/anna",
    "dead list",
    "audit",
]


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in clean_environ().keys() ^ os.environ.keys():
        monkeypatch.delenv(name)
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def started(program: str, **environ: str) -> tuple[int, str]:
    """Returns the exit status of a program that cannot start, and the last line of its errors."""
    port = {"HOLDLINE_PORT": str(free_port())}
    done = run_module("command", *program.split(), **ENVIRON | port | environ)
    assert "Traceback" not in done.stderr
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_an_invalid_setting_has_a_status_of_its_own(
    command: str, environ: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ.setenv("HOLDLINE_PARTITONS", "2")
    assert INVALID_SETTINGS == commands.run(*command.split())
    assert "HOLDLINE_PARTITONS is not a setting" in capsys.readouterr().err


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_with_an_invalid_setting_exits_with_the_status(program: str) -> None:
    found, error = started(program, HOLDLINE_PARTITONS="2")
    assert "HOLDLINE_PARTITONS is not a setting" in error
    assert INVALID_SETTINGS == found


@pytest.mark.parametrize("command", [*COMMANDS, *PROGRAMS])
def test_wrong_usage_is_not_an_invalid_setting(command: str) -> None:
    assert USAGE == commands.run(*command.split(), "--nonsense")


@pytest.mark.parametrize("command", ["check --connect", "keys list", "status", "up"])
def test_an_unavailable_redis_is_not_an_invalid_setting(
    command: str, environ: pytest.MonkeyPatch
) -> None:
    environ.setenv("HOLDLINE_API_KEYS", "redis")
    environ.setenv("HOLDLINE_PORT", str(free_port()))
    assert FAILED == commands.run(*command.split())


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_port_in_use_is_not_an_invalid_setting(processes: str) -> None:
    """systemd must try again: the previous process may still be shutting down."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as listener:
        port = str(listener.sockets[0].getsockname()[1])
        environ = {"HOLDLINE_PORT": port, "HOLDLINE_PROCESSES": processes}
        found, error = await asyncio.to_thread(started, "server", **environ)
    assert "HOLDLINE_PORT" in error
    assert FAILED == found


def test_an_invalid_file_that_only_the_server_of_up_reads_ends_up_with_the_status(
    tmp_path: Path,
) -> None:
    found, error = started(
        "up",
        REDIS_URL="",
        HOLDLINE_DATA_DIR=str(tmp_path / "data"),
        HOLDLINE_MODELS=str(tmp_path / "missing.toml"),
    )
    assert INVALID_SETTINGS == found, error


def test_the_document_lists_every_status() -> None:
    listed = [int(row[0]) for row in table(OPERATING, "Exit statuses")]
    assert [0, FAILED, USAGE, INVALID_SETTINGS, INTERRUPTED] == listed
