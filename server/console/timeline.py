"""Reads the timelines of the responses that consoles show."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from jobs.errors import UnknownResponse
from jobs.names import names_of
from jobs.timeline import FIELDS
from jobs.timeline_reader import read_timeline
from server.api.schema.console import Step, Timeline

if TYPE_CHECKING:
    from jobs import timeline
    from jobs.redis.pipe import Pipe

    from .fleet import Fleet

# The maximum number of timelines in memory.
MAX_KEPT: Final = 100
# The number of entries of a dead list in which a response is searched.
MAX_SEARCHED: Final = 10_000


class Timelines:
    """Reads timelines. All methods raise RedisTrouble.

    A timeline needs the whole log of its response. A console asks twice a second, so a timeline is
    built again only after the response's record, or what its worker says about it, has changed.
    """

    def __init__(self, pipe: Pipe, fleet: Fleet) -> None:
        self._pipe = pipe
        self._fleet = fleet
        self._kept: dict[str, tuple[Any, Timeline]] = {}

    async def read(self, response_id: str, now: float) -> Timeline:
        """Returns the timeline of a response, which has no status if the response is unknown.

        `now` is the time of Redis in Unix seconds.
        """
        try:
            names = names_of(response_id)
            record, dead, due = await asyncio.gather(
                self._pipe.call("HMGET", names.job(response_id), *FIELDS),
                self._pipe.call("LPOS", names.dead, response_id, "MAXLEN", MAX_SEARCHED),
                self._pipe.call("ZSCORE", names.hooks, response_id),
            )
            running = self._fleet.answer(response_id)
            mark = record, dead, due, running and running[1].first_token_at
            known = self._kept.get(response_id)
            if known is None or known[0] != mark:
                found = await read_timeline(self._pipe, response_id)
                model = running[1].model if running else found.model
                built = _shown(found, now, model, dead=dead is not None)
                if len(self._kept) >= MAX_KEPT:
                    self._kept.clear()
                known = self._kept[response_id] = mark, built
        except UnknownResponse:
            return Timeline(
                response_id=response_id,
                now=now,
                status=None,
                model=None,
                tenant=None,
                tier=None,
                attempts=0,
                failures=0,
                complete=True,
                dead=False,
                steps=[],
            )
        return replace(known[1], now=now)


def _shown(found: timeline.Timeline, now: float, model: str, *, dead: bool) -> Timeline:
    steps = [
        Step(
            at=step.at / 1000,
            kind=str(step.kind),
            attempt=step.attempt or None,
            worker=step.worker or None,
            code=step.code or None,
            wait_ms=step.wait_ms,
            tries=step.tries,
        )
        for step in found.steps
    ]
    return Timeline(
        response_id=found.response_id,
        now=now,
        status=found.status,
        model=model or None,
        tenant=found.tenant,
        tier=found.tier,
        attempts=found.attempts,
        failures=found.failures,
        complete=found.complete,
        dead=dead,
        steps=steps,
    )
