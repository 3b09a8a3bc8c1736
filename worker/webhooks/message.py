"""Builds the body and the signature of a webhook.

The body has the format of OpenAI's webhooks, and the signature follows Standard Webhooks 1.0.
Therefore `client.webhooks.unwrap` of the official SDK can verify and parse a webhook. The body
contains the id of the response but not its content, which the receiver fetches with its own
credentials. The webhook of feedback contains the feedback, which the site asked for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobs.feedback import Feedback

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix, not a secret
SECRET_BYTES: Final = (24, 64)
FEEDBACK_TYPE: Final = "holdline.feedback"


@dataclass(frozen=True, slots=True)
class Receiver:
    """The receiver of webhooks. The worker signs each webhook with each of the `keys`."""

    url: str = field(repr=False)
    keys: tuple[bytes, ...] = field(repr=False)
    allow_private: bool = False


def event_id(response_id: str) -> str:
    """Returns the webhook id of a finished response, which is the same in every attempt."""
    return "evt_" + response_id.removeprefix("resp_")


def body(response_id: str, status: str, ended_ms: int) -> bytes:
    """Returns the body of the webhook for a finished response."""
    made = event(event_id(response_id), ended_ms, f"response.{status}", {"id": response_id})
    return _encoded(made)


def feedback_body(id_: str, response_id: str, given: Feedback, changed_ms: int) -> bytes:
    """Returns the body of the webhook for the feedback on a response. `id_` is its webhook id."""
    data = {"id": response_id, "rating": given.rating, "comment": given.comment}
    return _encoded(event(id_, changed_ms, FEEDBACK_TYPE, data))


def _encoded(made: dict[str, Any]) -> bytes:
    return json.dumps(made, separators=(",", ":")).encode()


def event(id_: str, ended_ms: int, type_: str, data: dict[str, Any]) -> dict[str, Any]:
    """Returns an event in the format of OpenAI's webhooks."""
    return {
        "id": id_,
        "object": "event",
        "created_at": ended_ms // 1000,
        "type": type_,
        "data": data,
    }


def headers(id_: str, now_ms: int, payload: bytes, secrets: tuple[bytes, ...]) -> dict[str, str]:
    """Returns the HTTP headers of one attempt, with one signature for each secret.

    `id_` is the id of the event.
    """
    timestamp = str(now_ms // 1000)
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
