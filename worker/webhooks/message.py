"""Builds the body and the signature of a webhook, and decides when to send it again.

The body has the format of OpenAI's webhooks, and the signature follows Standard Webhooks 1.0.
Therefore `client.webhooks.unwrap` of the official SDK can verify and parse a webhook. The body
contains the id of the response but not its content, which the receiver fetches with its own
credentials.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Final

# The delay in seconds after each failed attempt, as Standard Webhooks recommends. The delays add up
# to about three days.
SCHEDULE: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_RETRY_AFTER: Final = 86_400.0
LATER: Final = 0.2  # the maximum random extension of a delay, as a fraction of it
GONE: Final = 410

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix, not a secret
SECRET_BYTES: Final = (24, 64)


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver of webhooks. The worker signs each webhook with each of the `keys`."""

    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The verdict that the receiver has accepted the webhook."""


@dataclass(frozen=True, slots=True)
class Again:
    """The verdict that the webhook must be sent again after `after_ms`."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The verdict that the webhook is not sent again."""


Verdict = Sent | Again | Dead


def event_id(response_id: str) -> str:
    """Returns the webhook id of a finished response, which is the same in every attempt."""
    return "evt_" + response_id.removeprefix("resp_")


def body(response_id: str, status: str, ended_ms: int) -> bytes:
    """Returns the body of the webhook for a finished response."""
    event = {
        "id": event_id(response_id),
        "object": "event",
        "created_at": ended_ms // 1000,
        "type": f"response.{status}",
        "data": {"id": response_id},
    }
    return json.dumps(event, separators=(",", ":")).encode()


def headers(
    response_id: str, now_ms: int, payload: bytes, secrets: tuple[bytes, ...]
) -> dict[str, str]:
    """Returns the HTTP headers of one attempt, with one signature for each secret."""
    id_, timestamp = event_id(response_id), str(now_ms // 1000)
    signed = b".".join((id_.encode(), timestamp.encode(), payload))
    signatures = [
        "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        for secret in secrets
    ]
    return {
        "Content-Type": "application/json",
        "User-Agent": "holdline-webhooks",
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def judge(
    status: int | None,
    *,
    tries: int,
    jitter: float,
    retry_after: float = 0.0,
    schedule: tuple[float, ...] = SCHEDULE,
) -> Verdict:
    """Decides after an attempt whether a webhook was sent, is retried or is abandoned.

    `status` is None if there was no HTTP response. `jitter` is a random number in [0, 1).
    """
    if status is not None and 200 <= status < 300:
        return Sent()
    if status == GONE or tries > len(schedule):
        return Dead()
    wait = max(schedule[tries - 1], min(retry_after, MAX_RETRY_AFTER))
    return Again(round(1000 * wait * (1 + LATER * jitter)))


def read_secrets(written: str) -> tuple[bytes, ...]:
    """Returns the keys of one or more secrets, separated by spaces or commas.

    Raises: ValueError, whose message does not contain the secrets.
    """
    found = []
    for word in written.replace(",", " ").split():
        if not word.startswith(SECRET_PREFIX):
            raise ValueError(f"each secret must begin with {SECRET_PREFIX}")
        try:
            key = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"the part after {SECRET_PREFIX} must be base64") from None
        least, most = SECRET_BYTES
        if not least <= len(key) <= most:
            raise ValueError(f"each secret must have {least} to {most} bytes, not {len(key)}")
        found.append(key)
    return tuple(found)
