"""Reads the sources of a response's timeline: its record, its log and its worker's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import Undecodable, UnknownResponse
from .log.codec import decode_event
from .log.log import read_all
from .names import names_of
from .redis.unexpected_reply import decoding
from .timeline import FIELDS, LogSummary, StepKind, Timeline, summary_of, timeline
from .worker_registry import WorkerRegistry

if TYPE_CHECKING:
    from .redis.pipe import Pipe


async def read_timeline(pipe: Pipe, response_id: str, *, viewer: str = "") -> Timeline:
    """Returns the timeline of a response.

    `viewer` has the same meaning as for `jobs.log.log.read`. If the log cannot be decoded, because
    this process lacks the encryption key, the timeline is not complete.

    Raises: UnknownResponse, RedisTrouble.
    """
    with decoding("the record of a response"):
        return await _read(pipe, response_id, viewer)


async def _read(pipe: Pipe, response_id: str, viewer: str) -> Timeline:
    names = names_of(response_id)
    try:
        view = await read_all(pipe, response_id, viewer=viewer)
        log: LogSummary | None = summary_of(map(decode_event, view.entries))
    except Undecodable:
        log = None
    found = await pipe.call("HMGET", names.job(response_id), *FIELDS)
    record = {
        name: value.decode() for name, value in zip(FIELDS, found, strict=True) if value is not None
    }
    if "status" not in record:
        raise UnknownResponse(response_id)
    due = await pipe.call("ZSCORE", names.hooks, response_id)
    tries = await pipe.call("HGET", names.hook(response_id), "tries")
    return timeline(
        response_id,
        record,
        log,
        webhook=None if due is None else (int(due), int(tries or 0)),
        first_token=await _first_token(pipe, response_id, record),
    )


async def _first_token(
    pipe: Pipe, response_id: str, record: dict[str, str]
) -> tuple[int, int] | None:
    """Returns the attempt and the time of the first token, according to the response's worker.

    Returns None if the response does not run, or before its first token.
    """
    claims = [
        line.split(" ")
        for line in record.get("steps", "").splitlines()
        if line.startswith(f"{StepKind.CLAIMED} ")
    ]
    if record["status"] != "running" or not claims:
        return None
    worker = await WorkerRegistry(pipe).get(claims[-1][3])
    for one in worker.responses if worker else ():
        if one.response_id == response_id and one.first_token_at is not None:
            return one.attempt, one.first_token_at
    return None
