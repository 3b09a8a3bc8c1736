"""Tests that `holdline up` runs everything, and that the other commands find it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from command.up.command import up
from command.up.data_dir import data_dir, with_running_settings
from command.up.embedded import SETTINGS_SOCKET, prepared
from command.up.run import CannotStartError, address, banner
from command.up.settings_socket import settings_of, settings_socket
from jobs.config.environ import THIS_COMMAND, Environ
from runtime import command_line
from tests.system import Process, System, free_port, wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """A system whose commands share a data folder, and know neither a Redis nor a model."""
    async with System("", tmp_path) as system:
        system.environ = {
            "HOLDLINE_DATA_DIR": str(tmp_path / "data"),
            "HOLDLINE_API_KEYS": str(tmp_path / "keys.json"),
            "DEMO_TOKENS_PER_SECOND": "2000",
        }
        yield system


async def started(system: System) -> Process:
    process = system.start("up", HOLDLINE_API_KEYS="", HOLDLINE_PORT=str(free_port()))

    def ready() -> bool:
        assert process.popen.poll() is None, process.output
        return "Ctrl-C stops everything" in process.output

    await wait_until(ready, 60)
    return process


async def test_everything_runs_and_the_five_tasks_of_the_help_work(system: System) -> None:
    up = await started(system)
    lines = dict(
        line.strip().split(maxsplit=1) for line in up.output.splitlines() if line.startswith("  ")
    )
    url = lines["page"]
    assert f"{url}/v1 as base_url, and any api_key" == lines["SDKs"]
    assert f'holdline ask --url {url} "Why is the sky blue?"' == lines["try"]

    # Another terminal does not have the HOLDLINE_DATA_DIR of this one.
    folder = system.environ["HOLDLINE_DATA_DIR"]
    assert f"HOLDLINE_DATA_DIR={folder} holdline status" == lines["see"]

    answered = await system.run("ask", "--url", url, "Why is the sky blue?", "--json")
    response = json.loads(answered.splitlines()[-1])
    assert "completed" == response["status"]
    assert "> Why is the sky blue?" in await system.run("ask", "--url", url, "Why is the sky blue?")

    # Without REDIS_URL, the commands for operators find the Redis of `holdline up`.
    assert "completed" in await system.run("status", response["id"])
    assert "holdline" not in (await system.run("status")).split()[0]
    assert (await system.run("keys", "create", "acme")).startswith("hl_")
    limits = json.loads(await system.run("tenants", "set", "acme", "running=7", "--json"))
    assert 7 == limits["limits"]["running"]
    assert "tenants set" in await system.run("audit", "--target", "acme")

    # They also find its settings, such as those of the simulated model.
    source = "the settings of the running `holdline up`"
    changed = "except for variables of this command: HOLDLINE_API_KEYS"
    checked = (await system.run("check", "--connect")).splitlines()
    assert f"checking {source}, {changed}" == checked[0]
    assert "worker  the settings are valid" == checked[-1]
    examined = json.loads(await system.run("doctor", "--json"))
    assert f"checked {source}, {changed}" == examined["findings"][0]["seen"]
    assert {"models", "workers"} <= {found["subject"] for found in examined["findings"]}

    up.signal(signal.SIGINT)
    assert 0 == await up.wait()
    environ = {"HOLDLINE_DATA_DIR": system.environ["HOLDLINE_DATA_DIR"]}
    assert "REDIS_URL" not in with_running_settings(environ)


@pytest.mark.parametrize("protected", [False, True])
def test_the_commands_that_are_shown_work_on_a_server_that_asks_for_a_key(protected: bool) -> None:
    environ = {"HOLDLINE_API_KEYS": "redis" if protected else ""}
    text = banner(environ, "http://127.0.0.1:8080", "redis", "model", "holdline status")
    assert protected == ('HOLDLINE_TOKEN=... holdline ask "' in text)
    assert protected != ("any api_key" in text)


async def test_settings_of_the_command_override_those_of_the_running_processes(
    tmp_path: Path,
) -> None:
    running = {"REDIS_URL": "unix://any", "HOLDLINE_MODEL": "m", "HOLDLINE_OPERATOR": "up"}
    shell = {"HOLDLINE_DATA_DIR": str(tmp_path)}
    with prepared(Path("any"), tmp_path) as embedded:

        async def found(**environ: str) -> Environ:
            return await asyncio.to_thread(with_running_settings, shell | environ)

        # While it starts, only its Redis is known.
        assert embedded.url == (await found())["REDIS_URL"]
        async with settings_socket(embedded.socket.parent, running):
            same = await found(HOLDLINE_MODEL="")
            assert "m" == same["HOLDLINE_MODEL"]
            assert "the settings of the running `holdline up`" == same.source
            # The user of the shell, and not the one who started the service, changes something.
            assert "HOLDLINE_OPERATOR" not in same
            other = await found(HOLDLINE_MODEL="other", HOLDLINE_OPERATOR="anna")
            assert ("other", "anna") == (other["HOLDLINE_MODEL"], other["HOLDLINE_OPERATOR"])
            assert other.source.endswith("this command: HOLDLINE_MODEL")
            elsewhere = await found(REDIS_URL="redis://other")
            assert "HOLDLINE_MODEL" not in elsewhere
            assert (THIS_COMMAND, "unset REDIS_URL") == (elsewhere.source, elsewhere.other)
    assert shell == await found()


async def test_settings_that_cannot_be_read_are_those_of_the_command(tmp_path: Path) -> None:
    async def answer(reply: bytes) -> dict[str, str]:
        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(reply)
            writer.close()

        async with await asyncio.start_unix_server(serve, tmp_path / SETTINGS_SOCKET):
            return await asyncio.to_thread(settings_of, tmp_path)

    assert {} == settings_of(tmp_path)
    assert {} == await answer(b"")
    assert {} == await answer(b'{"HOLDLINE_MODEL": ')
    assert {} == await answer(b"[]")
    assert {"HOLDLINE_MODEL": "m"} == await answer(b'{"HOLDLINE_MODEL": "m"}')


def test_a_given_redis_url_is_used(tmp_path: Path) -> None:
    environ = {"HOLDLINE_DATA_DIR": str(tmp_path), "REDIS_URL": "redis://other"}
    with prepared(Path("any"), tmp_path) as embedded:
        assert "redis://other" == with_running_settings(environ)["REDIS_URL"]
        environ["REDIS_URL"] = ""
        assert embedded.url == with_running_settings(environ)["REDIS_URL"]
    assert "" == with_running_settings(environ)["REDIS_URL"]


def test_an_installed_holdline_keeps_its_data_in_the_folder_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("command.up.data_dir.INSTALLED", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".local/share/holdline" == data_dir({})
    assert tmp_path / ".local/share/holdline" == data_dir({"XDG_DATA_HOME": "relative"})
    assert Path("/data/holdline") == data_dir({"XDG_DATA_HOME": "/data"})
    assert Path("named") == data_dir({"HOLDLINE_DATA_DIR": "named", "XDG_DATA_HOME": "/data"})


def test_a_user_without_a_home_folder_can_run_the_other_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("command.up.data_dir.INSTALLED", True)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    monkeypatch.delenv("HOLDLINE_DATA_DIR", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert {} == with_running_settings({})
    assert command_line.INVALID_SETTINGS == command_line.run(up, "holdline up", [])
    assert "set HOLDLINE_DATA_DIR" in capsys.readouterr().err


def test_a_port_that_an_orchestrator_has_set_is_ignored() -> None:
    environ = {"HOLDLINE_HOST": "tcp://", "HOLDLINE_PORT": "tcp://10.0.0.1:8080"}
    with pytest.raises(CannotStartError, match="HOLDLINE_HOST"):  # and not HOLDLINE_PORT
        address(environ, "holdline up")


async def test_a_port_in_use_is_reported_with_the_command_to_type(system: System) -> None:
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        process = system.start("up", HOLDLINE_PORT=str(port))
        assert command_line.FAILED == await process.wait(30)
    [line] = process.output.splitlines()
    assert f"port {port} on 127.0.0.1 is in use" in line
    assert " holdline up`" in line


async def test_the_help_of_ask_names_this_command(system: System) -> None:
    shown = await system.run("ask", "--help")
    assert "Usage: holdline ask" in shown
    assert 'holdline ask "Why is the sky blue?"' in shown
    assert "holdline-ask" not in shown
    assert sys.executable not in shown
