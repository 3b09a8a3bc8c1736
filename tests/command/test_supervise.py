"""Tests the supervisor with small stand-ins for the real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from command.up import pdeathsig

# Each argument has the form `name:kind`, where the kind selects one of the programs below.
SUPERVISOR = """
import asyncio, os, sys
from command.up.supervise import Child, supervise

KINDS = {
    "steady": "import time; print('pid', os.getpid()); time.sleep(60)",
    "stubborn": "import signal, time; signal.signal(15, signal.SIG_IGN);"
                "print('pid', os.getpid()); time.sleep(60)",
    "failing": "print('pid', os.getpid()); print('out of luck'); sys.exit(3)",
    "crashing": "print('pid', os.getpid()); os.kill(os.getpid(), 9)",
    "clean": "import signal, time\\n"
             "signal.signal(15, lambda *_: (print('goodbye'), sys.exit(0)))\\n"
             "print('pid', os.getpid()); time.sleep(60)",
}

async def ready(running):
    return any("pid" in line for line in running.heard)

def child(word):
    name, _, kind = word.partition(":")
    argv = [sys.executable, "-c", "import os, sys; " + KINDS[kind]]
    return Child(name, argv, ready, os.environ, outlives=name == "below")

children = [child(word) for word in sys.argv[1:]]
sys.exit(asyncio.run(supervise(children, lambda: print("all ready", flush=True))))
"""
WATCHER = pdeathsig.__file__


class Supervised:
    """A supervisor process and its output so far."""

    def __init__(self, is_alive: Callable[[int], bool], folder: Path, *children: str) -> None:
        self.is_alive = is_alive
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-c", SUPERVISOR, *children],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output_text(self) -> str:
        return self.output.read_text()

    def pids(self) -> list[int]:
        words = [line.split() for line in self.output_text().splitlines()]
        return [int(line[-1]) for line in words if line[-2:-1] == ["pid"]]

    def none_left(self) -> bool:
        return not any(self.is_alive(pid) for pid in self.pids())


Start = Callable[..., Supervised]


@pytest.fixture
def start(tmp_path: Path, is_alive: Callable[[int], bool]) -> Iterator[Start]:
    started: list[Supervised] = []

    def start(*children: str) -> Supervised:
        started.append(Supervised(is_alive, tmp_path, *children))
        return started[-1]

    yield start
    for supervised in started:
        supervised.process.kill()
        supervised.process.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_all_children_with_status_0(
    start: Start, wait_until: Callable[..., None], number: signal.Signals
) -> None:
    supervised = start("below:steady", "one:clean", "two:clean")
    wait_until(lambda: "all ready" in supervised.output_text())

    supervised.process.send_signal(number)

    assert 0 == supervised.process.wait(5)
    assert supervised.none_left()
    assert 2 == supervised.output_text().count("goodbye")


def test_a_child_that_ignores_sigterm_is_killed_within_5_seconds(
    start: Start, wait_until: Callable[..., None]
) -> None:
    supervised = start("below:stubborn", "one:stubborn")
    wait_until(lambda: "all ready" in supervised.output_text())
    began = time.monotonic()

    supervised.process.send_signal(signal.SIGINT)

    assert 0 == supervised.process.wait(6)
    assert time.monotonic() - began < 5
    assert supervised.none_left()


def test_a_second_signal_kills_all_children_at_once(
    start: Start, wait_until: Callable[..., None]
) -> None:
    supervised = start("one:stubborn")
    wait_until(lambda: "all ready" in supervised.output_text())

    supervised.process.send_signal(signal.SIGINT)
    wait_until(lambda: "stopping" in supervised.output_text())
    began = time.monotonic()
    supervised.process.send_signal(signal.SIGINT)

    assert 130 == supervised.process.wait(5)
    assert time.monotonic() - began < 2
    assert supervised.none_left()


def test_a_signal_during_start_up_stops_all_children(
    start: Start, wait_until: Callable[..., None]
) -> None:
    supervised = start("one:steady", "two:stubborn")
    wait_until(supervised.pids)

    supervised.process.send_signal(signal.SIGINT)

    assert 0 == supervised.process.wait(6)
    assert supervised.none_left()


@pytest.mark.parametrize(
    ("kind", "how"),
    [("failing", "two exited with status 3"), ("crashing", "two was killed by SIGKILL")],
)
def test_a_child_that_fails_during_start_up_is_named_and_stops_the_others(
    start: Start, kind: str, how: str
) -> None:
    supervised = start("one:steady", f"two:{kind}", "three:steady")

    assert 1 == supervised.process.wait(8)
    assert how in supervised.output_text()
    assert supervised.none_left()


def test_the_last_output_of_a_failed_child_is_shown(start: Start) -> None:
    supervised = start("one:failing")

    assert 1 == supervised.process.wait(8)
    assert "    one | out of luck" in supervised.output_text()


def test_a_child_that_dies_later_also_stops_the_others(
    start: Start, wait_until: Callable[..., None]
) -> None:
    supervised = start("one:steady", "two:steady")
    wait_until(lambda: "all ready" in supervised.output_text())

    os.kill(supervised.pids()[0], signal.SIGTERM)

    assert 1 == supervised.process.wait(8)
    assert "one was killed by SIGTERM" in supervised.output_text()
    assert supervised.none_left()


def test_a_killed_supervisor_leaves_no_orphan_process(
    start: Start, wait_until: Callable[..., None]
) -> None:
    supervised = start("below:stubborn", "one:stubborn", "two:steady")
    wait_until(lambda: "all ready" in supervised.output_text())

    supervised.process.kill()

    wait_until(supervised.none_left)


def test_the_watcher_process_ends_the_child_of_a_killed_parent(
    tmp_path: Path, wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    log = tmp_path / "log"
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    parent = (
        "import os, subprocess, sys\n"
        f"wrapped = [sys.executable, {WATCHER!r}, '9', str(os.getpid())]\n"
        f"subprocess.run([*wrapped, sys.executable, '-c', {child!r}])\n"
    )
    with (
        log.open("wb") as output,
        subprocess.Popen([sys.executable, "-c", parent], stdout=output) as process,
    ):
        wait_until(lambda: log.read_text().endswith("\n"))
        process.kill()

    wait_until(lambda: not is_alive(int(log.read_text())))


def test_the_watcher_process_returns_the_exit_status_of_its_child() -> None:
    wrapped = [sys.executable, WATCHER, "15", str(os.getpid())]

    done = subprocess.run([*wrapped, sys.executable, "-c", "raise SystemExit(7)"], check=False)

    assert 7 == done.returncode
