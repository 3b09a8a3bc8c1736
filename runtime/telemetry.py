"""Turns tracing on if the standard `OTEL_*` variables ask for it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from . import tracing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
EXPORTER: Final = "OTEL_TRACES_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"
# A process that ends waits at most this long for the collector.
SHUTDOWN_SECONDS: Final = 2.0


class InvalidTelemetry(ValueError):
    """An `OTEL_*` variable has a value that is not supported. The message names the variable."""


def asks_for_traces(environ: Mapping[str, str]) -> bool:
    """Returns True if the variables turn traces on. Raises: InvalidTelemetry."""

    def value(name: str) -> str:
        return environ.get(name, "").strip()

    exporter = value(EXPORTER).lower()
    if value(DISABLED).lower() == "true" or exporter == "none":
        return False
    if exporter not in ("", "otlp"):
        raise InvalidTelemetry(f"{EXPORTER} must be otlp or none, not {exporter!r}")
    if not exporter and not any(map(value, ENDPOINTS)):
        return False
    # The variable for traces overrides the one for all signals, as in the SDK.
    name = next(filter(value, PROTOCOLS), "")
    if name and value(name) != "http/protobuf":
        raise InvalidTelemetry(
            f"{name} must be http/protobuf, not {value(name)!r}; the usual port of a collector for "
            "this protocol is 4318"
        )
    return True


@contextlib.contextmanager
def telemetry(service: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Records spans in a `with` block, if the variables ask for it, and then exports the rest.

    `service` is the name of the program. Raises: InvalidTelemetry.
    """
    if not asks_for_traces(environ):
        yield
        return
    from .otlp import OtlpTracer

    tracer = OtlpTracer(service)
    tracing.use(tracer)
    try:
        yield
    finally:
        tracing.use(None)
        tracer.shut_down(SHUTDOWN_SECONDS)
