"""Tests Ctrl-C in a real terminal, with `make` as the parent of the supervisor."""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="setsid and /proc exist only on Linux"
)

PROGRAM = """
import asyncio, os, sys
from dev.foreground import alone_in_front
from command.up.supervise import Child, supervise

async def ready(running):
    return bool(running.heard)

steady = [sys.executable, "-c", "import time; print('up'); time.sleep(60)"]
with alone_in_front():
    print("supervisor", os.getpid(), flush=True)
    child = Child("one", steady, ready, os.environ)
    status = asyncio.run(supervise([child], lambda: print("all ready", flush=True)))
sys.exit(status)
"""


def make_run(folder: Path) -> list[str]:
    """Returns `make run` for a Makefile with the project's recipe and a stand-in program."""
    (folder / "program.py").write_text(PROGRAM)
    recipe = f"@PYTHONPATH={Path.cwd()} exec {sys.executable} {folder}/program.py"
    (folder / "Makefile").write_text(f"run:\n\t{recipe}\n")
    return ["make", "-C", str(folder), "run"]


class Terminal:
    """Runs a command in a session with a separate terminal."""

    def __init__(self, command: list[str]) -> None:
        self.ours, theirs = pty.openpty()
        os.set_blocking(self.ours, False)
        self.shown = b""
        self.process = subprocess.Popen(
            # Like a shell, start a session with this terminal as its controlling terminal.
            ["setsid", "--ctty", "--wait", *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def shows(self, text: bytes) -> bool:
        # There is no output yet, or all processes have ended.
        with contextlib.suppress(OSError):
            self.shown += os.read(self.ours, 65536)
        return text in self.shown


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(make_run(tmp_path))
    yield terminal
    terminal.process.kill()
    terminal.process.wait()
    os.close(terminal.ours)


def test_ctrl_c_stops_make_with_status_0(
    terminal: Terminal, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: terminal.shows(b"all ready"))

    os.write(terminal.ours, b"\x03")

    assert 0 == terminal.process.wait(6)
    wait_until(lambda: terminal.shows(b"stopping"))


def test_everything_stops_when_make_is_killed(
    tmp_path: Path, wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    log = tmp_path / "log"
    # Run `make` without a terminal, because closing the terminal would also stop the processes.
    with log.open("wb") as output:
        make = subprocess.Popen(make_run(tmp_path), stdin=subprocess.DEVNULL, stdout=output)
    wait_until(lambda: "all ready" in log.read_text())

    make.kill()

    make.wait()
    supervisor = int(log.read_text().split("supervisor ")[1].split()[0])
    wait_until(lambda: not is_alive(supervisor))
    assert "stopping" in log.read_text()
