"""The server's configuration: frozen, from the environment, wrong before anything starts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobs import environment as env
from jobs.environment import ConfigError
from jobs.tables import WrongTable

from .templates import Templates, templates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.models import Catalog
    from jobs.record import Terms


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that the server can be told. Times in seconds, sizes in bytes."""

    redis_url: str
    host: str
    port: int
    catalog: Catalog
    templates: Templates
    ping_seconds: float
    max_body_bytes: int
    wait_replicas: int
    max_sockets: int
    unstored_seconds: float
    origins: tuple[str, ...]
    terms: Terms

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """The configuration of some environment variables.

        Raises: ConfigError, which names the variable and says what would be right.
        """
        env.check_names(environ)
        host = env.text(environ, "HOLDLINE_HOST", "127.0.0.1")
        if not _is_loopback(host):
            raise ConfigError(
                f"HOLDLINE_HOST={host} can be reached by others, and without keys anyone may come "
                "in: set HOLDLINE_HOST=127.0.0.1 and put a proxy that authenticates in front"
            )
        catalog = env.catalog(environ)
        try:
            prompts = templates(catalog.prompts, catalog.knows)
        except WrongTable as error:
            raise ConfigError(f"HOLDLINE_MODELS={environ['HOLDLINE_MODELS']}: {error}") from None
        return cls(
            redis_url=env.redis_url(environ),
            host=host,
            port=int(env.number(environ, "HOLDLINE_PORT", 8080, 0, 65535)),
            catalog=catalog,
            templates=prompts,
            ping_seconds=env.number(environ, "HOLDLINE_PING_SECONDS", 25, 0.05, 300),
            max_body_bytes=int(
                env.number(environ, "HOLDLINE_MAX_BODY_BYTES", 1_048_576, 1024, 67_108_864)
            ),
            max_sockets=int(env.number(environ, "HOLDLINE_MAX_SOCKETS", 0, 0, 1_000_000)),
            unstored_seconds=env.number(environ, "HOLDLINE_UNSTORED_SECONDS", 60, 0, 86_400),
            wait_replicas=int(env.number(environ, "HOLDLINE_WAIT_REPLICAS", 0, 0, 10)),
            origins=_origins(env.text(environ, "HOLDLINE_ORIGINS", "")),
            terms=env.terms(environ),
        )


def _origins(written: str) -> tuple[str, ...]:
    """The sites of a list with commas, as browsers name them.

    Raises: ConfigError.
    """
    origins = tuple(part.strip() for part in written.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}":
            raise ConfigError(
                f"HOLDLINE_ORIGINS holds {origin!r}, which no browser sends; an origin is "
                "scheme://host[:port] with no path, such as https://shop.example"
            )
    return origins


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
