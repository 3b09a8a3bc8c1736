from __future__ import annotations

from dataclasses import dataclass

from jobs.record import Status


@dataclass(frozen=True, slots=True)
class View:
    """A consistent snapshot of a response and a part of its log.

    `entries` begins at the requested index. `number`, `queue_name` and `reason` tell where and why
    a queued response waits. They have no meaning in any other status. `trace` is the context of the
    response's trace, or "".
    """

    status: Status
    owner: str
    attempt: int
    number: int
    reason: str
    length: int
    entries: list[bytes]
    queue_name: str = ""
    trace: str = ""
