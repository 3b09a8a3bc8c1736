"""Tests that `--reload` detects changed source files and restarts only the reloading children."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dev.reload import SourceWatcher

SUPERVISOR = """
import asyncio, os, sys
from pathlib import Path
from dev.reload import SourceWatcher
from command.up.supervise import Child, supervise

async def ready(running):
    return any("pid" in line for line in running.heard)

root = Path(sys.argv[1])
steady = [sys.executable, "-c", "import os, time; print('pid', os.getpid()); time.sleep(60)"]
program = [sys.executable, str(root / "program.py")]
children = [
    Child("steady", steady, ready, os.environ, outlives=True),
    Child("program", program, ready, os.environ, reloads=True),
]
changed = SourceWatcher(root).changed
sys.exit(asyncio.run(supervise(children, lambda: print("all ready", flush=True), changed)))
"""
PROGRAM = "import os, time; print('pid', os.getpid(), {}); time.sleep(60)\n"


class Reloading:
    """A supervisor whose child `program` runs a file that the tests can change."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "program.py"
        self.program.write_text(PROGRAM.format(1))
        self._output = folder / "output"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-c", SUPERVISOR, str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return self._output.read_text()

    def pids(self, name: str) -> list[int]:
        lines = [line.split() for line in self.output().splitlines()]
        return [int(words[3]) for words in lines if words[:1] == [name] and words[2] == "pid"]


@pytest.fixture
def reloading(tmp_path: Path) -> Iterator[Reloading]:
    started = Reloading(tmp_path)
    yield started
    started.process.kill()
    started.process.wait()


def test_a_change_restarts_only_the_reloading_children(
    reloading: Reloading, wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    wait_until(lambda: "all ready" in reloading.output())

    reloading.program.write_text(PROGRAM.format(2))

    wait_until(lambda: "holdline: ready again" in reloading.output())
    assert "holdline: program.py has changed: restarting" in reloading.output()
    before, after = reloading.pids("program")
    assert (False, True) == (is_alive(before), is_alive(after))
    assert 1 == len(reloading.pids("steady"))
    reloading.process.send_signal(signal.SIGINT)
    assert 0 == reloading.process.wait(5)
    assert not is_alive(after)


def test_after_a_failed_restart_the_next_change_restarts_again(
    reloading: Reloading, wait_until: Callable[..., None]
) -> None:
    wait_until(lambda: "all ready" in reloading.output())

    reloading.program.write_text("def\n")
    wait_until(lambda: "waiting for a source file to change" in reloading.output())
    assert "program exited with status 1" in reloading.output()
    reloading.program.write_text(PROGRAM.format(3))

    wait_until(lambda: "holdline: ready again" in reloading.output())
    assert 2 == len(reloading.pids("program"))


@pytest.mark.parametrize("name", ["a.py", "jobs/scripts/claim.lua", "prompts.toml", "web/a.js"])
async def test_a_changed_source_file_is_detected(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    watcher = SourceWatcher(tmp_path)
    path.write_text("1")
    assert Path(name) == await watcher.changed()
    path.unlink()
    assert Path(name) == await watcher.changed()


async def test_other_files_are_not_watched(tmp_path: Path) -> None:
    watcher = SourceWatcher(tmp_path)
    for name in (".venv/a.py", "web/node_modules/b.js", "c.pyc", "dump.rdb"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await watcher.changed()
