"""Tests `python -m dev` with the real server, worker, Redis and simulated model."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from command.up.embedded import prepared

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads child processes from /proc"),
    pytest.mark.timeout(40),
]


class Dev:
    """A running `python -m dev` on a free port, with its own folder."""

    def __init__(self, folder: Path, **more: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.output = folder / f"output-{self.port}"
        environ = {
            "PATH": os.environ["PATH"],
            "HOLDLINE_PORT": str(self.port),
            "HOLDLINE_DATA_DIR": str(folder / "data"),
            "DEMO_TOKENS_PER_SECOND": "2000",
            **more,
        }
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dev"],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output.read_text()
        return "Ctrl-C stops everything" in self.output.read_text()

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=15) as response:
            answered: dict[str, Any] = json.load(response)
            return answered

    def children(self) -> list[int]:
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def run_dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    started: list[Dev] = []

    def run(**environ: str) -> Dev:
        started.append(Dev(tmp_path, **environ))
        return started[-1]

    yield run
    for dev in started:
        dev.process.terminate()
        dev.process.wait(6)
    with prepared(Path("any"), tmp_path / "data"):
        # Entering the context cleans up after a killed process.
        pass


def text_of(response: dict[str, Any]) -> str:
    return "".join(part["text"] for item in response["output"] for part in item["content"])


def test_an_answer_survives_a_restart(
    run_dev: Callable[[], Dev], wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    first = run_dev()
    wait_until(first.is_ready, 20)
    asked = first.ask("/v1/responses", {"input": "Why is the sky blue?"})
    assert "completed" == asked["status"]
    assert "> Why is the sky blue?" in text_of(asked)
    children = first.children()
    assert 4 == len(children)

    first.process.send_signal(signal.SIGINT)

    assert 0 == first.process.wait(5)
    assert not any(is_alive(child) for child in children)
    assert not first.is_listening()

    second = run_dev()
    wait_until(second.is_ready, 20)
    assert text_of(asked) == text_of(second.ask(f"/v1/responses/{asked['id']}"))


@pytest.mark.heavy
def test_a_killed_dev_server_leaves_no_process_and_no_listener(
    run_dev: Callable[[], Dev], wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    dev = run_dev()
    wait_until(dev.is_ready, 20)
    children = dev.children()

    dev.process.kill()

    wait_until(lambda: not any(is_alive(child) for child in children))
    assert not dev.is_listening()


def test_a_killed_worker_is_named(
    run_dev: Callable[[], Dev], wait_until: Callable[..., None]
) -> None:
    dev = run_dev()
    wait_until(dev.is_ready, 20)
    words = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in dev.children()}
    (worker,) = [pid for pid, line in words.items() if line.endswith(b"-m\0command\0worker\0")]

    os.kill(worker, signal.SIGKILL)

    assert 1 == dev.process.wait(8)
    assert "worker was killed by SIGKILL" in dev.output.read_text()


@pytest.mark.heavy
def test_the_worker_becomes_ready_although_it_should_log_only_errors(
    run_dev: Callable[..., Dev], wait_until: Callable[..., None]
) -> None:
    wait_until(run_dev(HOLDLINE_LOG_LEVEL="error").is_ready, 20)
