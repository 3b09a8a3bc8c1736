"""Jobs, events and a queue for the tests of `jobs` and of the packages that use it."""

from __future__ import annotations

import secrets
from typing import Any

from hypothesis import HealthCheck, Phase, settings

from jobs.ids import item_id, new_response_id
from jobs.log.codec import Event, encode_event
from jobs.log.events import lifecycle, terminal
from jobs.log.items import Place, added, delta, done, message, part_added, text_part
from jobs.names import Partition, names_of
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.redis.pipe import Pipe
from jobs.replies import Grant
from jobs.scripts import calls

NAMES = Partition(0)
SETTINGS = SharedSettings(max_waiting=1_000_000)


def on_redis(max_examples: int) -> settings:
    """Returns settings for property tests on a real Redis, which each example must flush itself."""
    return settings(
        max_examples=max_examples,
        deadline=None,
        # Shrinking is omitted because it takes minutes on a real Redis; the first failing example
        # is enough.
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def a_job(owner: str = "public", text: str = "Why?", **params: Any) -> Job:
    """Makes a job in the form that the server submits."""
    id_ = new_response_id(0)
    item = {
        "id": item_id("msg", id_, 0, 0),
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": [{"type": "input_text", "text": text}],
    }
    return Job(id_, owner, 1_700_000_000, {"model": "m", "input": [item], **params})


def message_added(item_id: str, index: int) -> list[Event]:
    """Returns the two events that begin a message with one text part."""
    place = Place("output_text", item_id, index)
    return [added(index, message(item_id, "in_progress", [])), part_added(place)]


def text_delta(item_id: str, index: int, text: str) -> Event:
    """Returns a text delta of a message with one text part."""
    return delta(Place("output_text", item_id, index), text)


def message_done(item_id: str, index: int, text: str, status: str) -> list[Event]:
    """Returns the three events that end a message with one text part."""
    return done(index, message(item_id, status, [text_part(text)]))


def opening(job: Job) -> list[Event]:
    """Returns the two events that a submission writes."""
    return [lifecycle(job, f"response.{kind}", "queued") for kind in ("created", "queued")]


def saying(job: Job, attempt: int, index: int, pieces: list[str]) -> list[Event]:
    """Returns one attempt's events up to its message's last delta.

    The events that close the message are not included.
    """
    message = item_id("msg", job.id, attempt, index)
    return [
        lifecycle(job, "response.in_progress", "in_progress"),
        *message_added(message, index),
        *(text_delta(message, index, piece) for piece in pieces),
    ]


def said(job: Job, attempt: int, index: int, text: str) -> list[Event]:
    """Returns the events that end the message that `saying` began."""
    return message_done(item_id("msg", job.id, attempt, index), index, text, "completed")


def ending(
    job: Job,
    status: Status = Status.COMPLETED,
    text: str = "",
    attempts: int = 1,
    cause: str = "server_error",
) -> Event:
    """Returns a terminal event. `cause` is used only for a failed response."""
    message = {
        "id": item_id("msg", job.id, attempts, 0),
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [text_part(text)],
    }
    return terminal(
        job,
        status,
        output=[message] if text else [],
        attempts=attempts,
        timing={},
        completed_at=1_700_000_001,
        incomplete="max_output_tokens" if status is Status.INCOMPLETE else None,
        error={"code": cause, "message": "It broke."} if status is Status.FAILED else None,
    )


def end_entry(job: Job, status: Status = Status.COMPLETED) -> bytes:
    """Returns the log entry of a terminal event."""
    return encode_event(ending(job, status))


async def submitted(queue: Queue, owner: str = "public") -> Job:
    """Submits a job and returns it."""
    job = a_job(owner)
    await queue.submit(job, opening(job))
    return job


async def claimed(queue: Queue, owner: str = "public") -> tuple[Job, Grant]:
    """Submits a job to an empty queue and claims it."""
    job = await submitted(queue, owner)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    assert job.id == grant.response_id
    return job, grant


def new_claim() -> str:
    """Returns a new claim token."""
    return secrets.token_hex(8)


async def run_out(pipe: Pipe, response_id: str) -> None:
    """Makes the lease of a running job expire, as if its worker had stopped renewing the lease."""
    await pipe.call("ZADD", NAMES.leases, "XX", 0, response_id)


async def fall_due(pipe: Pipe, response_id: str) -> None:
    """Makes the delay of a job that waits for a retry expire."""
    await pipe.call("ZADD", NAMES.delayed, "XX", 0, response_id)


async def inspect_now(pipe: Pipe, response_id: str) -> None:
    """Makes a job due for inspection by the next rescue."""
    await pipe.call("ZADD", NAMES.open, "XX", 0, response_id)


async def status_of(pipe: Pipe, response_id: str) -> str | None:
    """Returns the status stored in the job's record."""
    status = await pipe.call("HGET", names_of(response_id).job(response_id), "status")
    return None if status is None else str(status.decode())


async def queue_positions(pipe: Pipe) -> object:
    """Returns the reply of the read-only script `queue_positions`."""
    call = calls.queue_positions(numbers_key=NAMES.numbers, prefix=NAMES.prefix, tenants=[])
    return await pipe.run(call)


async def until_next_ms(pipe: Pipe) -> None:
    """Returns when the clock of Redis shows another millisecond, so that scores differ."""

    async def now() -> int:
        seconds, micros = await pipe.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    began = await now()
    while await now() == began:
        pass
