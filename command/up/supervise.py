"""Supervises several child processes: starts them in order, and stops all of them together.

If a child dies, the supervisor prints its name and stops the other children. The first request to
stop (Ctrl-C, SIGTERM or a closed terminal) ends all children within five seconds, and the second
request ends them at once.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.command_line import FAILED, INTERRUPTED, INVALID_SETTINGS

from .lines import readable
from .pdeathsig import with_pdeathsig

READY_SECONDS = 90.0
ASK_SECONDS = 0.02
# The time limits for stopping: STOP_SECONDS for most children, then LAST_STOP_SECONDS for the
# children that the others depend on. The sum is less than five seconds.
STOP_SECONDS = 3.0
LAST_STOP_SECONDS = 0.8
COLOURS = (36, 35, 33, 32, 34)


@dataclass(frozen=True)
class Child:
    """The definition of a child process: its command, its readiness check and how to stop it."""

    name: str
    argv: Sequence[str]
    ready: Callable[["Running"], Awaitable[bool]]
    environ: Mapping[str, str]
    # True if other children depend on this child, so that it must be stopped after them.
    outlives: bool = False
    # True if the child is restarted when a source file changes.
    reloads: bool = False
    # The signal that the child gets when the supervisor is killed.
    pdeathsig: signal.Signals = signal.SIGKILL
    pass_fds: Sequence[int] = ()
    last_words: Callable[[], str] = str


@dataclass
class Running:
    """A started child process, with the last lines of its output."""

    child: Child
    process: asyncio.subprocess.Process
    colour: int
    since: float = field(default_factory=time.monotonic)
    heard: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    output: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Died(Exception):
    """A child process ended unexpectedly, or did not become ready in time."""

    def __init__(self, running: Running, how: str) -> None:
        words = running.child.last_words().strip()
        super().__init__(f"{running.child.name} {how}" + (f":\n{words}" if words else ""))
        self.running = running


async def supervise(
    children: Sequence[Child],
    when_ready: Callable[[], None],
    changed: Callable[[], Awaitable[Path]] | None = None,
) -> int:
    """Runs the children until a request to stop or until one of them dies.

    Returns the exit status: 0 after a request to stop, 78 if a child found invalid settings, 1 if a
    child died for another reason, 130 if a second request ended the children at once.

    `changed` waits for a change of the source code. After each change, the children with `reloads`
    restart. If such a child dies, the other children keep running, and the next change restarts it.
    """
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def asked() -> None:
        if stop.is_set():
            hurry.set()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, asked)
    kept: list[Running] = []
    status = 0
    try:
        await _until_stop(_keep(children, kept, when_ready, changed), stop)
    except Died as death:
        print_status(f"{death}\nholdline: stopping the rest")
        invalid = death.running.process.returncode == INVALID_SETTINGS
        status = INVALID_SETTINGS if invalid else FAILED
    else:
        print_status("stopping")
    finally:
        stop.set()  # From now on, each request to stop ends the children at once.
        await _until_stop(_stop(kept), hurry)
        for running in kept:
            running.send(signal.SIGKILL)
        await asyncio.gather(*(running.process.wait() for running in kept))
        await _drain_output(kept)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    return INTERRUPTED if hurry.is_set() else status


def print_status(text: str) -> None:
    with contextlib.suppress(OSError):  # A closed terminal must not prevent the shutdown.
        print(f"holdline: {text}", flush=True)


async def _until_stop(work: Awaitable[None], stop: asyncio.Event) -> None:
    """Runs `work` until it ends or `stop` is set. Raises: the errors of `work`."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


async def _keep(
    children: Sequence[Child],
    kept: list[Running],
    when_ready: Callable[[], None],
    changed: Callable[[], Awaitable[Path]] | None,
) -> None:
    """Starts the children one after the other, and restarts children after source changes.

    Raises: Died if a child dies, unless a later change of the source code restarts it.
    """
    for number, child in enumerate(children):
        kept.append(await _start(child, COLOURS[number % len(COLOURS)]))
        await _ready(kept[-1], kept)
    when_ready()
    if changed is None:
        await _death(kept)
        return
    while True:
        try:
            await _until_change(kept, changed)
            await _restart(children, kept)
        except Died as death:
            if not death.running.child.reloads:
                raise
            kept.remove(death.running)
            print_status(f"{death}\nholdline: waiting for a source file to change")


async def _death(kept: Sequence[Running]) -> None:
    """Waits until a child dies. Raises: Died."""
    deaths = [asyncio.ensure_future(running.process.wait()) for running in kept]
    try:
        await asyncio.wait(deaths, return_when=asyncio.FIRST_COMPLETED)
        await _drain_output([running for running in kept if not running.alive])
        _all_alive(kept)
    finally:
        for death in deaths:
            death.cancel()


async def _until_change(kept: Sequence[Running], changed: Callable[[], Awaitable[Path]]) -> None:
    """Waits for a change of the source code. Raises: Died if a child dies first."""
    death = asyncio.ensure_future(_death(kept))
    change = asyncio.ensure_future(changed())
    try:
        await asyncio.wait([death, change], return_when=asyncio.FIRST_COMPLETED)
        if change.done():
            print_status(f"{change.result()} has changed: restarting")
        else:
            death.result()
    finally:
        for task in (death, change):
            task.cancel()
        await asyncio.gather(death, change, return_exceptions=True)


async def _restart(children: Sequence[Child], kept: list[Running]) -> None:
    """Restarts the children with `reloads`, including those that have died."""
    old = [running for running in kept if running.child.reloads]
    await _stop(old)
    await asyncio.gather(*(running.process.wait() for running in old))
    await _drain_output(old)
    for running in old:
        kept.remove(running)
    for number, child in enumerate(children):
        if child.reloads:
            kept.append(await _start(child, COLOURS[number % len(COLOURS)]))
            await _ready(kept[-1], kept)
    print_status("ready again")


async def _start(child: Child, colour: int) -> Running:
    argv, set_pdeathsig = with_pdeathsig(child.argv, child.pdeathsig)
    process = await asyncio.create_subprocess_exec(
        *argv,
        preexec_fn=set_pdeathsig,
        pass_fds=child.pass_fds,
        start_new_session=True,  # Only the supervisor gets Ctrl-C. It then stops the children.
        env={**child.environ, "PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    running = Running(child, process, colour)
    if process.stdout is not None:
        running.output = asyncio.create_task(_pass_on(running, process.stdout))
    return running


async def _ready(running: Running, kept: Sequence[Running]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not await running.child.ready(running):
        _all_alive(kept)
        if time.monotonic() > deadline:
            raise Died(running, f"was not ready within {READY_SECONDS:.0f} s: see its log above")
        await asyncio.sleep(ASK_SECONDS)


def _all_alive(kept: Sequence[Running]) -> None:
    for running in kept:
        status = running.process.returncode
        if status is not None and status < 0:
            raise Died(running, f"was killed by {signal.Signals(-status).name}")
        if status is not None:
            raise Died(running, f"exited with status {status}")


async def _stop(kept: Sequence[Running]) -> None:
    """Stops first the children without `outlives`, then the children with `outlives`."""
    for outlives, seconds in ((False, STOP_SECONDS), (True, LAST_STOP_SECONDS)):
        group = [running for running in kept if running.child.outlives is outlives]
        for running in group:
            running.send(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(running.process.wait() for running in group))
        for running in group:
            if running.alive:
                print_status(f"{running.child.name} did not stop in {seconds:g} s and is killed")
                running.send(signal.SIGKILL)


async def _pass_on(running: Running, reader: asyncio.StreamReader) -> None:
    """Prints the output of a child, each line prefixed with the child's name."""
    mark = f"{running.child.name:>7} | "
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        mark = f"\x1b[{running.colour}m{mark}\x1b[0m"
    rest = b""
    while piece := await reader.read(65536):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            _print_line(running, mark, line)
    if rest:
        _print_line(running, mark, rest)


def _print_line(running: Running, mark: str, line: bytes) -> None:
    text = line.decode(errors="replace").rstrip()
    running.heard.append(text)
    with contextlib.suppress(OSError):
        for part in readable(text).split("\n"):
            print(f"{mark}{part}", flush=True)


async def _drain_output(gone: Sequence[Running]) -> None:
    """Prints the remaining output of children that have ended.

    The wait is short, because a grandchild may keep the pipe open.
    """
    tasks = [running.output for running in gone if running.output is not None]
    if tasks:
        _done, waiting = await asyncio.wait(tasks, timeout=0.3)
        for task in waiting:
            task.cancel()
