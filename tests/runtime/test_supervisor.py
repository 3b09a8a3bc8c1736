"""Tests that a parent process replaces child processes that die or hang."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from runtime import supervisor
from runtime.command_line import FAILED, INVALID_SETTINGS
from runtime.supervisor import CANNOT_START, Children, supervise
from tests.system import ROOT, wait_until

pytestmark = pytest.mark.timeout(120)
# A child process that writes its process id to a file in FOLDER, and can be told to misbehave.
CHILD = """
import asyncio, os, pathlib, sys, time
from runtime.heartbeat import heartbeats
from runtime.supervisor import handle_stop

async def main():
    stop = asyncio.Event()
    handle_stop(stop.set, stop.set)
    async with heartbeats(is_child=True):
        await asyncio.sleep(0)  # the first heartbeat
        (pathlib.Path(os.environ["FOLDER"]) / str(os.getpid())).touch()
        if os.environ["KIND"] == "busy":
            time.sleep(60)  # the event loop hangs
        if os.environ["KIND"] == "closed":
            os.close(0)
        await stop.wait()

if os.environ["KIND"].isdecimal():
    sys.exit(int(os.environ["KIND"]))
asyncio.run(main())
"""


class Parent:
    """Supervises child processes in the process of the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.task: asyncio.Task[int] | None = None

    def start(self, kind: str, *, number: int = 2, silent_seconds: float = 2.0) -> None:
        environ = {"FOLDER": str(self.folder), "KIND": kind}
        how = Children(stop_seconds=5, silent_seconds=silent_seconds, environ=environ)
        self.task = asyncio.create_task(supervise("child", number, how))

    @property
    def pids(self) -> set[int]:
        """The process ids of all children so far."""
        return {int(file.name) for file in self.folder.iterdir()}

    async def status(self) -> int:
        assert self.task is not None
        return await asyncio.wait_for(self.task, 30)


@pytest.fixture
async def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Parent]:
    monkeypatch.setattr(supervisor, "module_command", lambda _: [sys.executable, "-c", CHILD])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    parent = Parent(tmp_path)
    yield parent
    if parent.task is not None and not parent.task.done():
        parent.task.cancel()
        await asyncio.wait([parent.task])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_that_is_stopped_by_a_signal_is_replaced(parent: Parent) -> None:
    with structlog.testing.capture_logs() as logs:
        parent.start("steady")
        await wait_until(lambda: len(parent.pids) == 2, 60)
        hung, other = parent.pids
        os.kill(hung, signal.SIGSTOP)
        await wait_until(lambda: len(parent.pids) == 3, 60)
        assert not is_running(hung)
        assert is_running(other)
        os.kill(os.getpid(), signal.SIGTERM)
        assert 0 == await parent.status()
    told = [(line["event"], line["pid"]) for line in logs if "pid" in line]
    assert [
        ("child process hung: killing it", hung),
        ("child process died: starting another one", hung),
    ] == told


async def test_a_child_whose_event_loop_hangs_is_replaced(parent: Parent) -> None:
    parent.start("busy", number=1)
    await wait_until(lambda: len(parent.pids) == 2, 60)


async def test_a_child_that_sends_heartbeats_is_not_replaced(parent: Parent) -> None:
    parent.start("steady", silent_seconds=3)
    await wait_until(lambda: len(parent.pids) == 2, 60)
    await asyncio.sleep(6)  # twice the time limit
    assert 2 == len(parent.pids)


async def test_a_child_without_a_line_to_its_parent_is_replaced(parent: Parent) -> None:
    parent.start("closed", number=1)
    await wait_until(lambda: len(parent.pids) == 2, 60)


async def test_a_stopped_child_does_not_delay_the_end(parent: Parent) -> None:
    parent.start("steady", silent_seconds=60)
    await wait_until(lambda: len(parent.pids) == 2, 60)
    os.kill(min(parent.pids), signal.SIGSTOP)
    os.kill(os.getpid(), signal.SIGTERM)
    assert FAILED == await parent.status()
    assert not any(map(is_running, parent.pids))


@pytest.mark.parametrize(
    ("child", "expected"), [(CANNOT_START, FAILED), (INVALID_SETTINGS, INVALID_SETTINGS)]
)
async def test_a_child_that_cannot_start_is_not_replaced(
    parent: Parent, child: int, expected: int
) -> None:
    parent.start(str(child))
    assert expected == await parent.status()
