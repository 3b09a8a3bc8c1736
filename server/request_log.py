"""Records each request and WebSocket message, in its trace and, if configured, in the log.

So a complaint that names only a time and an end user can be matched with a response. The log has a
line for each request that is not only a read, and for each request that was refused.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Literal

import structlog

from jobs.errors import RedisFull
from jobs.subject_hash import SALT_BYTES, read_salt, subject_hash
from runtime import trace_context, tracing
from runtime.tracing import Kind

from .access.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jobs.redis.pipe import Pipe

    from .api.problem import Problem

RequestLogMode = Literal["off", "on", "with_address"]

# Stands for a caller that is not authenticated.
ANONYMOUS: Final = Principal(None)

log = structlog.get_logger()


class RequestRecord:
    """The values of one request that the request log records. An unknown value is None."""

    __slots__ = ("code", "is_read", "model", "response_id", "status", "who")

    def __init__(self, who: Principal | None, *, is_read: bool) -> None:
        self.who = who
        self.is_read = is_read
        self.model: str | None = None
        self.response_id: str | None = None
        self.status: int | None = None
        self.code: str | None = None

    def refused(self, problem: Problem) -> None:
        """Records that the request was refused."""
        self.status, self.code = problem.status, problem.code


_RECORD: Final[ContextVar[RequestRecord | None]] = ContextVar("request", default=None)


def note(*, model: str | None = None, response_id: str | None = None) -> None:
    """Adds facts to the record of the current request."""
    if response_id is not None:
        tracing.bind(response_id=response_id)
    if (record := _RECORD.get()) is not None:
        record.model = model or record.model
        record.response_id = response_id or record.response_id


class RequestLog:
    """Records the requests of one server."""

    def __init__(self, mode: RequestLogMode) -> None:
        self._logs = mode != "off"
        self._with_address = mode == "with_address"
        self._salt: bytes | None = None  # until `load`

    async def load(self, pipe: Pipe) -> None:
        """Reads the salt for the hashes of end users, if they are needed. Raises: RedisTrouble.

        If Redis is full and has no salt, the salt belongs to this process alone, because a server
        must be able to start while Redis is full.
        """
        if self._logs or tracing.is_on():
            try:
                self._salt = await read_salt(pipe)
            except RedisFull:
                self._salt = secrets.token_bytes(SALT_BYTES)

    @contextlib.contextmanager
    def record(
        self, route: str, parent: str = "", who: Principal | None = None, *, is_read: bool = False
    ) -> Iterator[RequestRecord]:
        """Records the request that a `with` block handles.

        `route` is the method and the path template of a request, or the type of a message. `parent`
        is the client's trace context. If there is none, a new trace begins.
        """
        started = time.monotonic()
        record = RequestRecord(who, is_read=is_read)
        with tracing.span(route, kind=Kind.SERVER, parent=parent) as span:
            context = span.context or parent or trace_context.new()
            before = _RECORD.set(record)
            with tracing.within(context):
                try:
                    yield record
                finally:
                    _RECORD.reset(before)
                    self._end(route, record, span, started)

    def refused(self, route: str, problem: Problem, who: Principal | None = None) -> None:
        """Records a request that was refused before it could be handled."""
        with self.record(route, who=who) as record:
            record.refused(problem)

    def _end(self, route: str, record: RequestRecord, span: tracing.Span, started: float) -> None:
        logs = self._logs and not (record.is_read and (record.status or 500) < 400)
        if not logs and not tracing.is_on():
            return
        who = record.who or ANONYMOUS
        subject = None
        # Without the salt, the hash would reveal the user to anybody who guesses the name.
        if who.subject is not None and self._salt is not None:
            subject = subject_hash(self._salt, who.owner)
        span.set(
            {
                "http.response.status_code": record.status,
                "gen_ai.request.model": record.model,
                "user.hash": subject,
                "holdline.code": record.code,
                "holdline.key_id": who.key_id,
                "holdline.response_id": record.response_id,
                "holdline.tenant": who.tenant,
            }
        )
        if record.status is not None and record.status >= 500:
            span.fail(record.code or str(record.status))
        if logs:
            log.info(
                "request handled",
                route=route,
                status=record.status,
                code=record.code,
                response_id=record.response_id,
                model=record.model,
                tenant=who.tenant,
                subject_hash=subject,
                key_id=who.key_id,
                address=who.address or None if self._with_address else None,
                request_ms=round(1000 * (time.monotonic() - started)),
            )
