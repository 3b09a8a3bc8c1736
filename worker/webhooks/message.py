"""The body of a webhook, its signature and its schedule of attempts. Pure.

The message is in the shape of OpenAI's webhooks, the signature that of Standard Webhooks 1.0: so
`client.webhooks.unwrap` of the official SDK verifies and types it. It names the response and holds
none of its content: the receiver fetches the response with credentials of its own.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Final

# Seconds before the next attempt, after so many: what Standard Webhooks recommends, three days.
SCHEDULE: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
MAX_RETRY_AFTER: Final = 86_400.0
LATER: Final = 0.2  # a delay is lengthened by chance, by this part of it at most
GONE: Final = 410

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix, not a secret
SECRET_BYTES: Final = (24, 64)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where webhooks go. `keys` are those of the secrets: each signs."""

    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    allow_private: bool = False


@dataclass(frozen=True, slots=True)
class Sent:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class Again:
    """To be tried again after so many ms."""

    after_ms: int


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt is made."""


Verdict = Sent | Again | Dead


def event_id(response_id: str) -> str:
    """The id of the one terminal event that a response has: the same at every attempt."""
    return "evt_" + response_id.removeprefix("resp_")


def body(response_id: str, status: str, ended_ms: int) -> bytes:
    """The message."""
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
    """The headers of one attempt, one signature for each secret."""
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
    """Judges an attempt. `status` is None without an answer; `jitter` is in [0, 1)."""
    if status is not None and 200 <= status < 300:
        return Sent()
    if status == GONE or tries > len(schedule):
        return Dead()
    wait = max(schedule[tries - 1], min(retry_after, MAX_RETRY_AFTER))
    return Again(round(1000 * wait * (1 + LATER * jitter)))


def read_secrets(written: str) -> tuple[bytes, ...]:
    """The keys of one or several secrets, with spaces or commas between them; sign with each.

    Raises: ValueError, whose message does not repeat them.
    """
    found = []
    for word in written.replace(",", " ").split():
        if not word.startswith(SECRET_PREFIX):
            raise ValueError(f"a secret must begin with {SECRET_PREFIX}")
        try:
            key = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"what follows {SECRET_PREFIX} must be base64") from None
        least, most = SECRET_BYTES
        if not least <= len(key) <= most:
            raise ValueError(f"a secret must have {least} to {most} bytes, not {len(key)}")
        found.append(key)
    return tuple(found)
