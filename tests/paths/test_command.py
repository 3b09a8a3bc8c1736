"""Tests the `holdline-ask` command on a terminal and in a pipe, interrupted and resumed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import sys
import tomllib
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fake_model import FakeModel
from tests.jobs.proxy import Proxy
from tests.paths.conftest import Shared
from tests.system import ROOT, System, free_port, wait_until


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


class Command:
    """One run of the command. `shown` holds the output that its terminal or pipe has received."""

    def __init__(self, process: asyncio.subprocess.Process, master: int | None) -> None:
        self.process = process
        self.shown = ""
        self.errors = ""
        self._master = master
        self._reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, *arguments: str, url: str, tty: bool = False, stdin: str = "") -> Command:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("HOLDLINE_")}
        master, slave = pty.openpty() if tty else (None, asyncio.subprocess.PIPE)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "holdline_client", *arguments),
            cwd=ROOT,
            env={**environ, "HOLDLINE_URL": url, "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.PIPE,
            stdout=slave,
            stderr=slave if tty else asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(stdin.encode())
        process.stdin.close()
        if tty:
            os.close(slave)
        command = cls(process, master)
        command._reading = asyncio.create_task(command._read())
        return command

    async def _read(self) -> None:
        if self._master is None:
            assert self.process.stdout is not None
            assert self.process.stderr is not None
            while data := await self.process.stdout.read(4096):
                self.shown += data.decode()
            self.errors = (await self.process.stderr.read()).decode()
            return
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        os.set_blocking(self._master, False)
        loop.add_reader(self._master, news.set)
        try:
            # Reading fails when the process has closed its side of the terminal.
            with contextlib.suppress(OSError):
                while True:
                    await news.wait()
                    news.clear()
                    with contextlib.suppress(BlockingIOError):
                        self.shown += os.read(self._master, 4096).decode(errors="replace")
        finally:
            loop.remove_reader(self._master)
            os.close(self._master)

    async def end(self) -> int:
        """Reads all output, waits until the command has ended, and returns its exit code."""
        assert self._reading is not None
        await asyncio.wait_for(self._reading, 40)
        return await asyncio.wait_for(self.process.wait(), 20)


def tokens(text: str) -> list[int]:
    """Returns the numbers of the tokens in a text."""
    return [int(number) for number in re.findall(r"c\d+t(\d+) ", text)]


async def test_a_pipe_receives_only_the_complete_text(shared: Shared) -> None:
    command = await Command.start("-", url=shared.server.url, stdin=shared.prompt())
    assert 0 == await command.end()
    assert list(range(20)) == tokens(command.shown)
    assert "" == command.errors


async def test_a_terminal_shows_the_stream_and_the_id(shared: Shared) -> None:
    command = await Command.start(
        shared.prompt("mode=slow tokens=40 pace=0.05"), url=shared.server.url, tty=True
    )
    await wait_until(lambda: 3 < len(tokens(command.shown)) < 40)
    assert 0 == await command.end()
    assert "resp_" in command.shown
    assert "40 tokens" in command.shown


async def test_a_terminal_shows_a_lost_connection_and_then_continues_the_text(
    shared: Shared,
) -> None:
    async with Proxy(shared.server.url) as proxy:
        prompt = shared.prompt("mode=slow tokens=40 pace=0.05")
        command = await Command.start(prompt, url=proxy.url.replace("redis", "http"), tty=True)
        await wait_until(lambda: len(tokens(command.shown)) > 3)
        proxy.refuse = 2
        proxy.reset()
        assert 0 == await command.end()
    before, _, after = command.shown.partition("\x1b7\x1b[2m [reconnecting …]\x1b[0m")
    gone, _, rest = after.partition("\x1b8\x1b[J")
    assert "" == gone.strip()
    assert list(range(40)) == tokens(before + rest)


async def test_escape_sequences_from_a_model_are_not_sent_to_the_terminal(shared: Shared) -> None:
    prompt = shared.prompt("say=a\x1b]0;owned\x07b")
    command = await Command.start(prompt, url=shared.server.url, tty=True)
    assert 0 == await command.end()
    assert "a␛]0;owned␇b" in command.shown


async def test_ctrl_c_prints_a_command_that_resumes_the_answer(shared: Shared) -> None:
    prompt = shared.prompt("mode=slow tokens=60 pace=0.05")
    command = await Command.start(prompt, "--stream", url=shared.server.url)
    await wait_until(lambda: len(tokens(command.shown)) > 3)
    command.process.send_signal(signal.SIGINT)
    assert 130 == await command.end()
    _, _, advice = command.errors.strip().partition("holdline-ask ")
    words = advice.split()
    assert "--id" in words
    assert "--after" in words
    rest = await Command.start(*words, "--stream", url=shared.other.url)
    assert 0 == await rest.end()
    assert list(range(60)) == tokens(command.shown + rest.shown)
    assert 1 == len(shared.calls(prompt))


class SingleConnectionProxy(Proxy):
    """A proxy that accepts a single connection and refuses all others."""

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.refuse = min(self.accepted, 1)
        await super()._accept(reader, writer)


async def test_ctrl_c_before_acceptance_prints_the_idempotency_key(shared: Shared) -> None:
    command = await Command.start("x", url=f"http://127.0.0.1:{free_port()}", tty=True)
    await wait_until(lambda: "connecting" in command.shown)
    command.process.send_signal(signal.SIGINT)
    assert 130 == await command.end()
    async with SingleConnectionProxy(shared.server.url) as proxy:
        proxy.drop_reply_after(b"holdline:welcome")
        url = proxy.url.replace("redis", "http")
        command = await Command.start(shared.prompt(), url=url, tty=True)
        await wait_until(lambda: "reconnecting" in command.shown)
        command.process.send_signal(signal.SIGINT)
        assert 130 == await command.end()
    assert "--key" in command.shown


async def test_a_suspended_command_resumes_after_its_socket_has_died(shared: Shared) -> None:
    prompt = shared.prompt("mode=slow tokens=60 pace=0.05")
    async with Proxy(shared.server.url) as proxy:
        url = proxy.url.replace("redis", "http")
        command = await Command.start(prompt, "--stream", url=url)
        await wait_until(lambda: len(tokens(command.shown)) > 3)
        command.process.send_signal(signal.SIGSTOP)
        # The proxy acts like a router that has dropped the connection from its table.
        proxy.stop_forwarding()
        accepted = proxy.accepted
        command.process.send_signal(signal.SIGCONT)
        await wait_until(lambda: proxy.accepted > accepted)
        proxy.forward_again()
        assert 0 == await command.end()
    assert list(range(60)) == tokens(command.shown)
    assert 1 == len(shared.calls(prompt))


@pytest.mark.heavy
async def test_a_killed_server_does_not_change_the_output_of_the_command(
    system: System, model: FakeModel
) -> None:
    port = str(free_port())
    server = await system.server(HOLDLINE_PORT=port)
    await system.worker(model.url)
    command = await Command.start("mode=slow tokens=60 pace=0.05", "--stream", url=server.url)
    await wait_until(lambda: len(tokens(command.shown)) > 3)
    await server.kill()
    await system.server(HOLDLINE_PORT=port)
    assert 0 == await command.end()
    assert (list(range(60)), "") == (tokens(command.shown), command.errors)
    assert 1 == len(model.calls)


async def test_a_restart_is_announced_in_a_stream_and_invisible_in_a_pipe(
    system: System, model: FakeModel
) -> None:
    server = await system.server()
    worker = await system.worker(model.url)
    prompt = "mode=slow tokens=60 pace=0.05"
    stream = await Command.start(prompt, "--stream", url=server.url)
    plain = await Command.start(prompt, url=server.url)
    await wait_until(lambda: len(tokens(stream.shown)) > 3 and len(model.open_calls) == 2)
    await worker.kill()
    await system.worker(model.url)
    assert 0 == await stream.end()
    assert 0 == await plain.end()
    assert "worker_lost: the answer starts over (attempt 2)" in stream.errors
    assert list(range(60)) == tokens(stream.shown)[-60:]
    assert list(range(60)) == tokens(plain.shown)


@pytest.mark.parametrize(
    ("script", "code", "word"),
    [
        ("mode=400", 1, "invalid_prompt"),
        ("mode=length", 3, "max_output_tokens"),
        ("mode=filtered", 3, "content_filter"),
    ],
)
async def test_a_failed_answer_sets_the_exit_code(
    shared: Shared, script: str, code: int, word: str
) -> None:
    command = await Command.start(shared.prompt(script), url=shared.server.url)
    assert code == await command.end()
    assert word in command.errors
    # An operator finds a failed answer by its id, which no other line shows.
    assert (code == 1) == ("holdline status resp_" in command.errors)


async def test_invalid_arguments_are_reported_and_send_no_request(
    shared: Shared,
) -> None:
    for arguments, url in [
        ((), shared.server.url),
        (("x", "--id", "resp_1"), shared.server.url),
        (("x",), "nowhere"),
    ]:
        command = await Command.start(*arguments, url=url)
        assert 2 == await command.end()
        assert command.errors.endswith("; see holdline-ask --help\n")
        assert 1 == command.errors.count("\n")


async def test_a_prompt_that_is_no_text_is_wrong_usage(shared: Shared) -> None:
    broken = os.fsdecode(b"half a letter: \xc3")
    for arguments in ([broken], ["--model", broken, "a"]):
        command = await Command.start(*arguments, url=shared.server.url)
        assert 2 == await command.end()
        assert "must be UTF-8" in command.errors


@pytest.mark.checkout
async def test_the_client_wheel_contains_only_the_client_and_runs_in_a_fresh_environment(
    tmp_path: Path,
) -> None:
    async def run(*command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        assert 0 == process.returncode, output.decode()
        return output.decode()

    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input")
    await run(
        *(sys.executable, *pip, "wheel", "--quiet", "--no-build-isolation", "--no-deps"),
        *("--wheel-dir", ".", str(ROOT)),
    )
    (wheel,) = tmp_path.glob("holdline_client-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        (metadata,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        wants = [
            line
            for line in archive.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist") and "extra ==" not in line
        ]
    assert {"holdline_client", metadata.split("/")[0]} == tops
    assert ["aiohttp"] == [want.split()[1].split(">")[0] for want in wants]
    await run(sys.executable, "-m", "venv", "--without-pip", "fresh")
    python = str(tmp_path / "fresh/bin/python")
    await run(sys.executable, *pip, "--python", python, "install", "--no-deps", str(wheel))
    (site,) = (tmp_path / "fresh/lib").glob("python*/site-packages")
    # Use the aiohttp of the tests' own environment, so that the test does not need the network.
    for place in sys.path:
        if place.endswith("site-packages"):
            (site / "rest.pth").write_text(place)
    assert "holdline-ask" in await run(python, "-m", "holdline_client", "--help")
    output = await run(str(tmp_path / "fresh/bin/holdline-ask"), "--help")
    assert "--after" in output
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    shown = await run(str(tmp_path / "fresh/bin/holdline-ask"), "--version")
    assert f"holdline-ask {version}" == shown.strip()
    where = await run(python, "-c", "import holdline_client as c; print(c.__file__, c.__all__)")
    assert str(site) in where
