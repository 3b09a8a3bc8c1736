"""Lets a parent process notice that a child process hangs, although it has not died.

A child sends one byte per second from its event loop, through the socket that is its standard
input. A child whose event loop hangs, or that is stopped by a signal, sends nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from .loop import Loop

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable

BEAT_SECONDS: Final = 1.0
# The time limit for the first heartbeat. The imports of a process take long on a busy machine.
START_SECONDS: Final = 300.0


@contextlib.asynccontextmanager
async def heartbeats(*, is_child: bool) -> AsyncIterator[None]:
    """Sends heartbeats to the parent in the `async with` block, if this is a child process."""
    if not is_child:
        yield
        return
    async with Loop("heartbeat", _beat, (BEAT_SECONDS, BEAT_SECONDS)):
        yield


async def _beat() -> None:
    # The buffer is full if the parent hangs. If the parent has died, `handle_stop` notices it.
    with contextlib.suppress(OSError):
        os.write(sys.stdin.fileno(), b".")


@contextlib.asynccontextmanager
async def listening(
    line: socket.socket, on_silence: Callable[[], None], silent_seconds: float
) -> AsyncIterator[None]:
    """Calls `on_silence` once if a child sends no heartbeat for too long in the `async with` block.

    The silence is counted in ticks of this process. If the whole machine or container pauses, this
    process does not tick either, so it does not mistake its children for hung ones afterwards.
    """
    loop = asyncio.get_running_loop()
    silent, allowed = 0.0, START_SECONDS
    line.setblocking(False)

    def read() -> None:
        nonlocal silent, allowed
        try:
            ended = not line.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:  # the child has ended
            loop.remove_reader(line)
        else:
            silent, allowed = 0.0, silent_seconds

    async def tick() -> None:
        nonlocal silent, allowed
        silent += BEAT_SECONDS
        if silent > allowed:
            allowed = float("inf")
            on_silence()

    pause = (BEAT_SECONDS, BEAT_SECONDS)
    loop.add_reader(line, read)
    try:
        async with Loop("heartbeats of a child", tick, pause, first_pause=pause):
            yield
    finally:
        loop.remove_reader(line)
