"""An OpenTelemetry collector for tests, which decodes OTLP with the official protocol buffers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass
class Recorded:
    """A span that the collector has received. Times are Unix times in seconds."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    links: list[str]
    """The ids of the linked spans."""
    attributes: dict[str, Any]
    failed: bool
    began: float
    ended: float
    resource: dict[str, Any]

    @property
    def context(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"

    @property
    def service(self) -> str:
        return str(self.resource["service.name"])


class Collector:
    """Receives spans at `url`. It is an async context manager.

    With another `status` than 200, it refuses all spans.
    """

    def __init__(self) -> None:
        self.spans: list[Recorded] = []
        self.bodies: list[bytes] = []
        self.status = 200
        self.refused = 0
        self.url = ""
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/traces", self._receive)
        self._runner = web.AppRunner(app)

    @property
    def environ(self) -> dict[str, str]:
        """Variables that make a process send each span to this collector soon after its end."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def named(self, name: str, **attributes: Any) -> list[Recorded]:
        """Returns the spans with this name and with these attributes of `holdline.`, by time."""
        wanted = {f"holdline.{key}": value for key, value in attributes.items()}
        found = [span for span in self.spans if span.name == name]
        return sorted(
            (one for one in found if wanted.items() <= one.attributes.items()),
            key=lambda span: span.began,
        )

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.status != 200:
            self.refused += 1
            return web.Response(status=self.status)
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _values(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_recorded(span, resource) for span in scope.spans]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


def _recorded(span: Any, resource: dict[str, Any]) -> Recorded:
    assert not span.events, "an event could contain more than the attributes that are allowed"
    return Recorded(
        span.name,
        span.kind,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        [link.span_id.hex() for link in span.links],
        _values(span.attributes),
        span.status.code == span.status.STATUS_CODE_ERROR,
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        resource,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind)
