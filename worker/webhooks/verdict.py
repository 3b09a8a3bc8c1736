"""Decides after an attempt to send a delivery whether and when it is sent again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# The delay in seconds after each failed attempt, as Standard Webhooks recommends. The delays add up
# to about three days.
SCHEDULE: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_RETRY_AFTER: Final = 86_400.0
MAX_JITTER: Final = 0.2  # the maximum random extension of a delay, as a fraction of it
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Sent:
    """The verdict that the receiver has accepted the delivery."""


@dataclass(frozen=True, slots=True)
class Again:
    """The verdict that the delivery must be sent again after `after_ms`."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The verdict that the delivery is not sent again. It is counted under `outcome`."""

    outcome: str = "dead"


@dataclass(frozen=True, slots=True)
class Spread:
    """The verdict that the push of a response must be sent to each of these subscriptions."""

    targets: list[str]


Verdict = Sent | Again | Dead | Spread


def judge(
    status: int | None,
    *,
    tries: int,
    jitter: float,
    retry_after: float = 0.0,
    schedule: tuple[float, ...] = SCHEDULE,
) -> Sent | Again | Dead:
    """Decides after an attempt whether a delivery was sent, is retried or is abandoned.

    `status` is None if there was no HTTP response. `jitter` is a random number in [0, 1).
    """
    if status is not None and 200 <= status < 300:
        return Sent()
    if status == GONE or tries > len(schedule):
        return Dead()
    wait = max(schedule[tries - 1], min(retry_after, MAX_RETRY_AFTER))
    return Again(round(1000 * wait * (1 + MAX_JITTER * jitter)))
