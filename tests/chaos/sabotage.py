"""Starts a server or a worker with one of its lines of defence switched off.

    python -m tests.chaos.sabotage WHAT server|worker

The checker must see each of these; they are nowhere but here.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace

from jobs.log.cursor import Relation
from jobs.record import Job
from jobs.replies import Grant
from jobs.scripts import SCRIPTS

HESITATES_SECONDS = 0.8


def change(script: str, before: str, after: str) -> None:
    """A script without one of its conditions."""
    old = SCRIPTS[script]
    source = old.source.replace(before.encode(), after.encode())
    assert source != old.source, f"{script} has changed: {before}"
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
    SCRIPTS[script] = replace(old, source=source, sha=sha.encode())


def successor() -> None:
    """Who takes over hesitates before its first word: harmless, while there is a fence."""
    from worker import execute
    from worker.context import WorkerContext
    from worker.opening import Opening, read_opening

    async def slowly(context: WorkerContext, grant: Grant, job: Job) -> Opening:
        opening = await read_opening(context, grant, job)
        if grant.attempt > 1:
            await asyncio.sleep(HESITATES_SECONDS)
        return opening

    execute.read_opening = slowly  # type: ignore[attr-defined]  # what it has imported


def fence() -> None:
    """An append does not ask whose the response is.

    Nor does a worker hear from its beat that it has lost a response: mostly that comes before the
    first append of a zombie, and the fence is for when it does not.
    """
    successor()
    change("append", "if f[1] ~= 'running' or f[2] ~= claim then return { 'fenced' } end", "")
    change("extend", "if f[1] == 'running' and f[2] == held[index + 1] then", "if true then")


def compare() -> None:
    """An append does not compare the log's length with its writer's."""
    change("append", "if length == expected then", "if true then")


def seen() -> None:
    """A follower passes on entries that it has sent before."""
    from server.api.frames import Frame
    from server.live.follower import Follower

    def notify(self: Follower, first: int, frames: list[Frame]) -> None:
        self._heard = max(self._heard, first + len(frames))
        if not self._live or self.done:
            return
        if self._cursor.relation(first, len(frames)) is Relation.GAP or not self._sink.writable:
            self.catch_up()
        else:
            self._cursor.next += len(frames)
            self._deliver(frames)

    Follower.notify = notify  # type: ignore[method-assign]


def gap() -> None:
    """Nothing is read again after notifications were lost."""
    from server.live.feed import Feed

    original = Feed.gap

    def once(self: Feed) -> None:
        if not self.confirmed:
            original(self)

    Feed.gap = once  # type: ignore[method-assign]


# `successor` takes nothing away: under the same faults the checker must be silent about it.
SABOTAGES: dict[str, tuple[Callable[[], None], str]] = {
    "fence": (fence, "zombies"),
    "successor": (successor, "zombies"),
    "seen": (seen, "late notifications"),
    "gap": (gap, "lost notifications"),
    "compare": (compare, "lost replies"),
}


def main() -> int:
    """Runs the process."""
    _, what, kind = sys.argv
    SABOTAGES[what][0]()
    sys.argv = [kind]
    if kind == "server":
        from server.__main__ import main as serve

        return serve()
    from worker.__main__ import main as work

    return work()


if __name__ == "__main__":
    sys.exit(main())
