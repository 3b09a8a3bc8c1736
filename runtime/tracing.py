"""Records spans, if `OTEL_*` variables turn tracing on. Otherwise every span is `NO_SPAN`.

The module `otlp` wraps the official SDK, and is imported only if tracing is on. A span has
only attributes of fixed names with values from the server's or the worker's own data: codes, ids,
numbers, and the names of models, queues and routes. No prompt, answer, key or token is recorded.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from . import trace_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    Attributes = Mapping[str, str | int | float | bool | Sequence[str] | None]

# The trace context of the code that runs now, or "". It exists without a recorded span too.
_CONTEXT: Final[ContextVar[str]] = ContextVar("trace_context", default="")


class Kind(Enum):
    """The kinds of spans, with the names of OpenTelemetry."""

    INTERNAL = "INTERNAL"
    SERVER = "SERVER"
    CLIENT = "CLIENT"
    PRODUCER = "PRODUCER"
    CONSUMER = "CONSUMER"


class Span:
    """A span that is not recorded, and the base class of those that are.

    `context` is the trace context of the span, or "" if the span is not recorded.
    """

    __slots__ = ()
    context = ""

    def set(self, attributes: Attributes) -> None:
        """Sets attributes. A value None is omitted."""

    def link(self, context: str) -> None:
        """Adds a link to another span, unless the other span belongs to the same trace."""

    def fail(self, error: str) -> None:
        """Marks the span as failed. `error` is a code or the class of an error."""

    def end(self, ago_seconds: float = 0.0) -> None:
        """Ends the span, which ended `ago_seconds` before now. Later calls have no effect."""


NO_SPAN: Final = Span()
_CURRENT: Final[ContextVar[Span]] = ContextVar("span", default=NO_SPAN)


class Tracer(Protocol):
    """Starts spans. `runtime.otlp` implements it."""

    def start(
        self,
        name: str,
        kind: Kind,
        parent: str,
        links: Sequence[str],
        attributes: Attributes,
        ago_seconds: float,
    ) -> Span:
        """Starts a span, which began `ago_seconds` before now."""


class _State:
    """The tracer of this process, or None if tracing is off."""

    tracer: Tracer | None = None


def use(tracer: Tracer | None) -> None:
    """Sets the tracer of this process."""
    _State.tracer = tracer


def is_on() -> bool:
    """Returns True if spans are recorded."""
    return _State.tracer is not None


def start(
    name: str,
    *,
    kind: Kind = Kind.INTERNAL,
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Attributes | None = None,
    ago_seconds: float = 0.0,
) -> Span:
    """Starts a span, which the caller has to end. It began `ago_seconds` before now.

    `parent` is the trace context of the parent; by default, that of the code that runs now.
    """
    tracer = _State.tracer
    if tracer is None:
        return NO_SPAN
    given = _CONTEXT.get() if parent is None else parent
    return tracer.start(name, kind, given, links, attributes or {}, ago_seconds)


@contextlib.contextmanager
def span(
    name: str,
    *,
    kind: Kind = Kind.INTERNAL,
    parent: str | None = None,
    links: Sequence[str] = (),
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """Starts a span for the duration of a `with` block, whose own spans become its children.

    An exception marks the span as failed, with its attribute `code` or else with its class.
    """
    if _State.tracer is None:
        yield NO_SPAN
        return
    one = start(name, kind=kind, parent=parent, links=links, attributes=attributes)
    context, current = _CONTEXT.set(one.context), _CURRENT.set(one)
    try:
        yield one
    except BaseException as error:
        one.fail(str(getattr(error, "code", "") or type(error).__name__))
        raise
    finally:
        one.end()
        _CURRENT.reset(current)
        _CONTEXT.reset(context)


def context() -> str:
    """Returns the trace context of the code that runs now, or ""."""
    return _CONTEXT.get()


def current() -> Span:
    """Returns the span of the innermost `span` block."""
    return _CURRENT.get()


@contextlib.contextmanager
def within(context: str, response_id: str = "") -> Iterator[None]:
    """Sets the trace context for a `with` block, and adds the ids to each line that it logs."""
    before, logged = _CONTEXT.set(context), structlog.contextvars.get_contextvars()
    bind(trace_id=trace_context.trace_id(context), response_id=response_id)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**logged)
        _CONTEXT.reset(before)


def bind(**ids: str) -> None:
    """Adds ids to each line that the rest of the innermost `within` block logs."""
    structlog.contextvars.bind_contextvars(**{name: id_ for name, id_ in ids.items() if id_})
