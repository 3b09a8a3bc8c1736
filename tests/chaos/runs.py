"""Constructed runs without a violation, for tests of the checker."""

from __future__ import annotations

from jobs.log.events import lifecycle, restarted, terminal
from jobs.record import Job as Asked
from jobs.record import Status
from tests.chaos.history import Call, ClientTrace, Event, History, Job, TraceEntry
from tests.jobs.factories import message_added, message_done, text_delta

MINE, OTHER = "resp_000" + "a" * 32, "resp_000" + "b" * 32


def asked(id_: str, marker: str) -> Asked:
    return Asked(id_, "public", 0, {"model": "m", "metadata": {"marker": marker}})


def restarted_log(id_: str, marker: str, first: int, second: int, lost: str = "") -> list[Event]:
    """Returns a log with a lost attempt of two tokens and a completed attempt of three tokens.

    `lost` replaces the text of the lost attempt.
    """
    job = asked(id_, marker)
    lost = lost or f"c{first}t0 c{first}t1 "
    text = f"c{second}t0 c{second}t1 c{second}t2 "
    done = message_done("msg_2", 1, text, "completed")
    return [
        *_begun(job),
        *message_added("msg_1", 0),
        text_delta("msg_1", 0, lost),
        *message_done("msg_1", 0, lost, "incomplete"),
        restarted(job, 2, "worker_lost"),
        *message_added("msg_2", 1),
        text_delta("msg_2", 1, f"c{second}t0 "),
        text_delta("msg_2", 1, f"c{second}t1 c{second}t2 "),
        *_ended(job, done),
    ]


def _begun(job: Asked) -> list[Event]:
    """Returns the first events of the log of a job."""
    return [
        lifecycle(job, "response.created", "queued"),
        lifecycle(job, "response.queued", "queued"),
        lifecycle(job, "response.in_progress", "in_progress"),
    ]


def _ended(job: Asked, done: list[Event]) -> list[Event]:
    """Returns the last events of a log: those that end its only message, and the terminal event."""
    end = terminal(
        job,
        Status.COMPLETED,
        output=[done[-1]["item"]],
        attempts=2,
        timing={},
        completed_at=1,
    )
    return [*done, end]


def numbered(log: list[Event], start: int = 0, stop: int | None = None) -> list[Event]:
    return [{**event, "sequence_number": n} for n, event in enumerate(log)][start:stop]


def create(marker: str) -> Event:
    return {
        "type": "response.create",
        "metadata": {"marker": marker},
        "idempotency_key": f"key of {marker}",
    }


def resume(id_: str, after: int) -> Event:
    return {"type": "holdline:resume", "response_id": id_, "starting_after": after}


def trace(client: str, *sockets: tuple[Event, list[Event]]) -> ClientTrace:
    lines: list[TraceEntry] = []
    for number, (request, received) in enumerate(sockets, 1):
        lines.append(TraceEntry(number, number, "sent", request))
        lines += [TraceEntry(number, number, "received", event) for event in received]
        lines.append(TraceEntry(number, number, "lost", {"why": "cut"}))
    return ClientTrace(client, lines)


def correct_run(lost: str = "") -> History:
    mine, other = restarted_log(MINE, "m1", 1, 3), restarted_log(OTHER, "m2", 2, 4, lost)
    return History(
        traces=[
            trace(
                "one",
                (create("m1"), numbered(mine, 0, 6)),
                (resume(MINE, 5), numbered(mine, 6)),
            ),
            trace("two", (create("m2"), numbered(other))),
            trace("late", (resume(MINE, -1), numbered(mine))),
        ],
        logs={MINE: mine, OTHER: other},
        jobs={MINE: Job("completed", 2, "m1"), OTHER: Job("completed", 2, "m2")},
        calls=[Call(1, "m1", 3), Call(2, "m2", 3), Call(3, "m1", 3), Call(4, "m2", 3)],
        calm_at=100,
        bound=10,
    )


def continued_run(at: int = 9) -> History:
    """Returns a run in which a second call continues the text of the first one."""
    job = asked(MINE, "m1")
    done = message_done("msg_1", 0, "c1t0 c1t1 c1t2 ", "completed")
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    log = [
        *_begun(job),
        *message_added("msg_1", 0),
        text_delta("msg_1", 0, "c1t0 c1t1"),
        {"type": "holdline:continued", "response_id": MINE, "attempt": 2, **place, "at": at},
        text_delta("msg_1", 0, " c1t2 "),
        *_ended(job, done),
    ]
    return History(
        traces=[trace("one", (create("m1"), numbered(log)))],
        logs={MINE: log},
        jobs={MINE: Job("completed", 2, "m1")},
        calls=[Call(1, "m1", 3, 2), Call(2, "m1", 3, 1)],
        calm_at=100,
        bound=10,
        keeps_output=True,
    )
