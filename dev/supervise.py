"""Several processes as one: started in order, stopped together, none left behind.

A child that dies takes the rest with it, by name. The first request to stop (Ctrl-C, SIGTERM, a
closed terminal) ends all of them within five seconds; the second ends them at once.
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

from .lines import readable
from .pdeathsig import with_pdeathsig

READY_SECONDS = 30.0
ASK_SECONDS = 0.02
# First for the children that work, then for those that they lean on: together less than five.
STOP_SECONDS = 3.0
LAST_STOP_SECONDS = 0.8
COLOURS = (36, 35, 33, 32, 34)
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Child:
    """A process to be kept: how it starts, when it is ready, when it may go."""

    name: str
    argv: Sequence[str]
    ready: Callable[["Running"], Awaitable[bool]]
    environ: Mapping[str, str]
    # The others lean on it, so it is stopped when they are gone.
    outlives: bool = False
    # It is restarted when a source file changes.
    reloads: bool = False
    # The signal that it gets when the supervisor is killed.
    pdeathsig: signal.Signals = signal.SIGKILL
    pass_fds: Sequence[int] = ()
    last_words: Callable[[], str] = str


@dataclass
class Running:
    """A child that was started, and the last lines that it wrote."""

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
    """A child ended although nobody had asked it to, or it never became ready."""

    def __init__(self, running: Running, how: str) -> None:
        words = running.child.last_words().strip()
        super().__init__(f"{running.child.name} {how}" + (f":\n{words}" if words else ""))
        self.running = running


async def supervise(
    children: Sequence[Child],
    when_ready: Callable[[], None],
    changed: Callable[[], Awaitable[Path]] | None = None,
) -> int:
    """Keeps the children until they are to stop, and returns the exit status to end with:
    0 after a request to stop, 1 after a death, 130 when a second request cut the stop short.

    `changed` waits for a change of the source; after each, the children that reload are restarted.
    With it, the death of such a child does not end the others: the next change restarts it.
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
        status = 1
    else:
        print_status("stopping")
    finally:
        stop.set()  # From here on each request is one to hurry.
        await _until_stop(_stop(kept), hurry)
        for running in kept:
            running.send(signal.SIGKILL)
        await asyncio.gather(*(running.process.wait() for running in kept))
        await _drain_output(kept)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
    return 130 if hurry.is_set() else status


def print_status(text: str) -> None:
    with contextlib.suppress(OSError):  # The terminal may be gone; that is no reason to stay.
        print(f"holdline: {text}", flush=True)


async def _until_stop(work: Awaitable[None], stop: asyncio.Event) -> None:
    """Runs `work` to its end or to the stop, whichever is first; its error is ours."""
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
    """Starts one child after the other and then waits for a death, which raises `Died`."""
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
            print_status(f"{death}\nholdline: waiting for a change of the source")


async def _death(kept: Sequence[Running]) -> None:
    """Waits for a death and raises `Died`."""
    deaths = [asyncio.ensure_future(running.process.wait()) for running in kept]
    try:
        await asyncio.wait(deaths, return_when=asyncio.FIRST_COMPLETED)
        await _drain_output([running for running in kept if not running.alive])
        _all_alive(kept)
    finally:
        for death in deaths:
            death.cancel()


async def _until_change(kept: Sequence[Running], changed: Callable[[], Awaitable[Path]]) -> None:
    """Waits for a change of the source. Raises: Died when a child dies first."""
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
    """Stops the children that reload and starts them again, also those that have died."""
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
        start_new_session=True,  # Ctrl-C is ours to hear, and ours to pass on.
        cwd=ROOT,
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
            raise Died(running, f"was not ready after {READY_SECONDS:.0f} s")
        await asyncio.sleep(ASK_SECONDS)


def _all_alive(kept: Sequence[Running]) -> None:
    for running in kept:
        status = running.process.returncode
        if status is not None and status < 0:
            raise Died(running, f"was killed by {signal.Signals(-status).name}")
        if status is not None:
            raise Died(running, f"ended with exit status {status}")


async def _stop(kept: Sequence[Running]) -> None:
    """Two rounds: those that work, then those that they lean on."""
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
    """Prints what the child writes, each line under its name."""
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
    """The last lines of those that are gone; not for long, as a grandchild may hold their pipe."""
    tasks = [running.output for running in gone if running.output is not None]
    if tasks:
        _done, waiting = await asyncio.wait(tasks, timeout=0.3)
        for task in waiting:
            task.cancel()
