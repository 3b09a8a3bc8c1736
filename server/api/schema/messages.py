"""The types of the messages that a socket's client receives besides log events."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import UNSET, Struct, UnsetType

from server.api.request import Lane

from .tagged import tagged


class About(Struct, kw_only=True):
    """A message to a client about one response."""

    response_id: str
    stream_id: Lane | UnsetType = UNSET


class TenantLimits(Struct):
    """The limits of a tenant; null means no limit."""

    sockets: int | None
    running: int | None
    waiting: int | None
    waiting_bytes: int | None
    requests_per_minute: int | None
    tokens_per_day: int | None
    money_per_day: float | None
    input_tokens: int | None
    subject_running: int | None
    subject_requests_per_minute: int | None
    subject_tokens_per_day: int | None
    subject_money_per_day: float | None


class Limits(Struct):
    """The limits that apply to a socket."""

    message_bytes: int
    depth: int
    output_bytes: int
    sockets: int | None
    waiting: int
    responses: int
    waiting_in_lanes: int
    messages_per_second: int
    retention_seconds: float
    unstored_seconds: float
    connection_seconds: float | None
    tenant: TenantLimits


class Welcome(Struct):
    ping_interval_ms: int
    server_time: int
    limits: Limits


class Queued(About):
    position: int | None
    eta_seconds: float | None
    reason: str


class Pong(Struct):
    id: str | int | None
    responses: dict[str, int]


class Authenticated(Struct):
    """The credential was accepted. It expires after `expires_in_seconds`, or never if null."""

    expires_in_seconds: float | None
    scopes: list[Literal["create", "read", "cancel", "admin"]]
    tenant: TenantLimits


class Expiring(Struct):
    """The token expires soon. The socket is closed `grace_seconds` after its expiry."""

    expires_in_seconds: float
    grace_seconds: float


class Degraded(Struct):
    degraded: bool


class Ended(About):
    sequence_number: int


class ProblemDetail(Struct):
    """Our own error code, present if it is more specific than the standard's error code."""

    error_code: str


class Problem(Struct):
    """The standard's error object.

    In an event, `headers` holds the headers that an HTTP response would have, if there are any.
    `response_id` names the response that the request created, which is still running.
    """

    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    code: str
    message: str
    param: str | None
    holdline: ProblemDetail | UnsetType = UNSET
    response_id: str | UnsetType = UNSET
    headers: dict[str, str] | UnsetType = UNSET


class Refused(Struct, kw_only=True):
    status: int
    error: Problem
    stream_id: Lane | UnsetType = UNSET
    response_id: str | UnsetType = UNSET


MESSAGES: Final[dict[str, type[Struct]]] = {
    **tagged(Welcome, "holdline:welcome"),
    **tagged(Queued, "holdline:queued"),
    **tagged(Pong, "holdline:pong"),
    **tagged(Authenticated, "holdline:authenticated"),
    **tagged(Expiring, "holdline:expiring"),
    **tagged(Degraded, "holdline:degraded"),
    **tagged(Ended, "holdline:ended"),
    **tagged(Refused, "error"),
}
