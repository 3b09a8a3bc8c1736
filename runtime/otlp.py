"""Exports spans to an OpenTelemetry collector, with the official SDK, as OTLP over HTTP.

A thread of the SDK sends the spans in batches. It has a bounded queue, from which it drops spans if
the collector is slow or unavailable, so a collector cannot disturb the process. Only
`runtime.telemetry` imports this module, because the SDK takes long to import.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import requests
import structlog
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from .tracing import Span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan

    from .tracing import Attributes, Kind

log = structlog.get_logger()

# The SDK has no limit on the length of attributes. Names of models come from clients.
MAX_ATTRIBUTE_CHARACTERS: Final = 256
MAX_LINKS: Final = 32
# A longer reply of the collector is not read, nor is one of unknown length.
MAX_REPLY_BYTES: Final = 65_536


class OtlpTracer:
    """Starts spans, and sends them to the collector that the `OTEL_*` variables name."""

    def __init__(self, service: str) -> None:
        """`service` is the name of the service, unless a variable sets another one."""
        # The SDK logs each failed export, but `_Exporter` logs only the first one.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        limits = SpanLimits(
            max_attribute_length=MAX_ATTRIBUTE_CHARACTERS, max_links=MAX_LINKS, max_events=0
        )
        resource = Resource.create({"process.pid": os.getpid()})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):  # no variable set
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        self._provider = TracerProvider(
            resource=resource, span_limits=limits, shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(_Exporter(OTLPSpanExporter(session=CollectorSession())))
        )
        self._tracer = self._provider.get_tracer("holdline")

    def start(
        self,
        name: str,
        kind: Kind,
        parent: str,
        links: Sequence[str],
        attributes: Attributes,
        ago_seconds: float,
    ) -> Span:
        """Starts a span. See `runtime.tracing.start`."""
        above = trace.set_span_in_context(trace.NonRecordingSpan(_context_of(parent)))
        started = self._tracer.start_span(
            name,
            context=above,
            kind=trace.SpanKind[kind.value],
            links=[trace.Link(_context_of(one)) for one in links if one],
            attributes={key: value for key, value in attributes.items() if value is not None},
            start_time=_ago(ago_seconds),
            record_exception=False,
            set_status_on_exception=False,
        )
        return OtlpSpan(started)

    def shut_down(self, seconds: float) -> None:
        """Exports the remaining spans, for at most `seconds`."""
        # If the collector is unavailable, the SDK's own shutdown takes up to half a minute.
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(seconds)


class OtlpSpan(Span):
    """A recorded span."""

    __slots__ = ("_links", "_span", "context")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._links: list[str] = []
        of = span.get_span_context()
        self.context = f"00-{of.trace_id:032x}-{of.span_id:016x}-{of.trace_flags & 1:02x}"

    def set(self, attributes: Attributes) -> None:
        """Sets attributes. A value None is omitted."""
        self._span.set_attributes({k: v for k, v in attributes.items() if v is not None})

    def link(self, context: str) -> None:
        """Adds one link to another span, unless the other span belongs to the same trace."""
        if not context or context[3:35] == self.context[3:35] or context in self._links:
            return
        self._links.append(context)
        self._span.add_link(_context_of(context))

    def fail(self, error: str) -> None:
        """Marks the span as failed. `error` is a code or the class of an error."""
        self._span.set_attribute("error.type", error)
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self, ago_seconds: float = 0.0) -> None:
        """Ends the span. See `runtime.tracing.Span`."""
        if self._span.is_recording():
            self._span.end(_ago(ago_seconds))


def _ago(seconds: float) -> int:
    """Returns a time before now, in nanoseconds since 1970."""
    return time.time_ns() - round(seconds * 1e9)


def _context_of(context: str) -> trace.SpanContext:
    if not context:
        return trace.INVALID_SPAN_CONTEXT
    _, trace_id, span_id, flags = context.split("-")
    return trace.SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(flags, 16)),
    )


class CollectorSession(requests.Session):
    """Sends requests to the collector, and discards the bodies of its replies.

    The exporter needs only the status and the headers. By default, requests reads the whole body
    into memory, whatever its size is.
    """

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        """Sends a request. The connection is reused only after a reply of a known short length."""
        response = super().request(*args, **{**kwargs, "stream": True})
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and len(length) < 10 and int(length) <= MAX_REPLY_BYTES:
            response.raw.read(decode_content=False)
        else:
            response.close()
        return response


class _Exporter(SpanExporter):
    """Logs once that the collector does not accept spans, and once that it accepts them again."""

    def __init__(self, exporter: OTLPSpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning(
                "trace export failing: spans are dropped until the collector accepts them",
                url=_shown(self._exporter),
            )
        elif self._fails and not fails:
            log.info("trace export recovered")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _shown(exporter: OTLPSpanExporter) -> str:
    """Returns the collector's address without its user name, password and query."""
    parts = urlsplit(exporter._endpoint)  # noqa: SLF001 - the exporter has no public attribute
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
