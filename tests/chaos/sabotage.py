"""Starts a server or worker with one of its defences disabled.

    python -m tests.chaos.sabotage WHAT server|worker

The checker must detect each sabotage. The sabotages exist only in this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace

from command.root import holdline
from jobs.log.cursor import Relation
from jobs.record import Job
from jobs.replies import Grant
from jobs.scripts import SCRIPTS
from runtime import command_line

DELAY_SECONDS = 0.8


def change(script: str, before: str, after: str) -> None:
    """Replaces a condition in a script."""
    old = SCRIPTS[script]
    source = old.source.replace(before.encode(), after.encode())
    assert source != old.source, f"{script} has changed: {before}"
    sha = hashlib.sha1(source, usedforsecurity=False).hexdigest()
    SCRIPTS[script] = replace(old, source=source, sha=sha.encode())


def successor() -> None:
    """Delays a restarted attempt's first output.

    The delay is harmless as long as appends by the previous worker are rejected.
    """
    from worker import execute
    from worker.context import WorkerContext
    from worker.opening import Opening, read_opening

    async def slowly(context: WorkerContext, grant: Grant, job: Job) -> Opening:
        opening = await read_opening(context, grant, job)
        if grant.attempt > 1:
            await asyncio.sleep(DELAY_SECONDS)
        return opening

    execute.read_opening = slowly  # type: ignore[attr-defined]  # the name that `execute` has imported


def fence() -> None:
    """Makes appends accept entries from a worker that has lost its job.

    Lease renewals no longer report the lost job either. Usually a worker learns of its loss from a
    renewal before its first late append. If it does not, the check in the append protects the log.
    """
    successor()
    change("append", "if f[1] ~= 'running' or f[2] ~= claim then return { 'fenced' } end", "")
    change("extend", "if f[1] == 'running' and f[2] == held[index + 1] then", "if true then")


def compare() -> None:
    """Makes appends ignore that the log is longer or shorter than the writer expects."""
    change("append", "if length == expected then", "if true then")


def seen() -> None:
    """Makes followers send entries that they have already sent."""
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
    """Makes followers ignore lost notifications instead of reading the log."""
    from server.live.feed import Feed

    original = Feed.gap

    def once(self: Feed) -> None:
        if not self.confirmed:
            original(self)

    Feed.gap = once  # type: ignore[method-assign]


def resume() -> None:
    """Makes followers of conversations begin with the current state instead of the cursor."""
    from server.live.conversation_follower import ConversationFollower

    original = ConversationFollower._begin

    async def begin(self: ConversationFollower) -> bool:
        self._after = None
        return await original(self)

    ConversationFollower._begin = begin  # type: ignore[method-assign]


# `successor` disables no defence, so the checker must report no violation under the same faults.
SABOTAGES: dict[str, tuple[Callable[[], None], str]] = {
    "fence": (fence, "zombies"),
    "successor": (successor, "zombies"),
    "seen": (seen, "late notifications"),
    "gap": (gap, "lost notifications"),
    "compare": (compare, "lost replies"),
    "resume": (resume, "conversations"),
}


def main() -> int:
    """Runs the sabotaged process."""
    _, what, kind = sys.argv
    SABOTAGES[what][0]()
    return command_line.run(holdline, "holdline", [kind])


if __name__ == "__main__":
    sys.exit(main())
