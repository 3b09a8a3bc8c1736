"""The configuration of the server, read from the environment and checked before it starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.config.settings import ConfigError
from jobs.config.toml import InvalidTable
from runtime.watched_file import LiveFile

from .access import api_keys, jwt
from .access.client_address import networks
from .api.push import PushConfig
from .origin import canonical, canonical_host, is_loopback
from .templates import Templates, templates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobs.cipher import Cipher
    from jobs.config.models import Catalog
    from jobs.record import SharedSettings

    from .access.api_keys import Record
    from .access.client_address import Network
    from .request_log import RequestLogMode

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """The authentication settings. Key files are read again when they change."""

    keys_in_redis: bool
    keys_file: LiveFile[dict[str, Record]] | None
    jwt_keys: LiveFile[jwt.Keys] | None
    jwks_url: str
    rules: jwt.Rules
    auth_seconds: float
    auth_grace_seconds: float
    proxies: tuple[Network, ...]

    @property
    def closed(self) -> bool:
        """True if requests must be authenticated."""
        return bool(self.keys_in_redis or self.keys_file or self.jwt_keys or self.jwks_url)

    @property
    def described(self) -> str:
        """A short description of the permitted clients, for the output of `holdline check`."""
        keys = {"API keys in Redis": self.keys_in_redis, "API keys in a file": self.keys_file}
        signed = {"tokens": self.jwt_keys or self.jwks_url}
        asked = [words for words, there in (keys | signed).items() if there]
        return f"holders of {' or '.join(asked)}" if asked else "everyone on this machine"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> AuthConfig:
        """Reads the authentication settings from environment variables. Raises: ConfigError."""
        keys = env.text(environ, "HOLDLINE_API_KEYS")
        url = env.text(environ, "HOLDLINE_JWKS_URL")
        if url and not _is_safe(url):
            raise ConfigError(
                "HOLDLINE_JWKS_URL must be an https:// URL, or http:// on loopback, without a "
                "password: anyone who can alter the key set can forge tokens"
            )
        claim = env.text(environ, "HOLDLINE_JWT_TENANT_CLAIM")
        return cls(
            keys_in_redis=keys == "redis",
            keys_file=None
            if keys in ("", "redis")
            else _file("HOLDLINE_API_KEYS", keys, api_keys.parse_file),
            jwt_keys=_file("HOLDLINE_JWT_KEYS", path, jwt.parse_keys)
            if (path := env.text(environ, "HOLDLINE_JWT_KEYS"))
            else None,
            jwks_url=url,
            rules=jwt.Rules(
                issuer=env.text(environ, "HOLDLINE_JWT_ISSUER"),
                audience=env.text(environ, "HOLDLINE_JWT_AUDIENCE"),
                tenant_claim=claim,
                max_seconds=env.number(environ, "HOLDLINE_JWT_MAX_SECONDS"),
            ),
            auth_seconds=env.number(environ, "HOLDLINE_AUTH_SECONDS"),
            auth_grace_seconds=env.number(environ, "HOLDLINE_AUTH_GRACE_SECONDS"),
            proxies=_proxies(env.text(environ, "HOLDLINE_TRUSTED_PROXIES")),
        )


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one server process. Times are in seconds and sizes are in bytes."""

    redis_url: str = field(repr=False)
    host: str
    port: int
    processes: int
    catalog: Catalog
    templates: Templates
    ping_seconds: float
    max_body_bytes: int
    max_context_bytes: int
    wait_replicas: int
    max_output_bytes: int
    max_sockets: int
    unstored_seconds: float
    request_seconds: float
    grace_seconds: float
    delay_seconds: float
    origins: tuple[str, ...]
    hosts: frozenset[str] | None
    access: AuthConfig
    shared: SharedSettings
    audit_retention_ms: int
    cipher: Cipher | None
    request_log: RequestLogMode
    push: PushConfig

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Reads the configuration from environment variables.

        Raises: ConfigError, which names the variable and says how to correct it.
        """
        env.check_names(environ)
        host = env.text(environ, "HOLDLINE_HOST")
        access = AuthConfig.from_environ(environ)
        if not access.closed and not is_loopback(host):
            raise ConfigError(
                f"HOLDLINE_HOST={host} is reachable from other machines, but the server does not "
                "authenticate clients: set HOLDLINE_API_KEYS or HOLDLINE_JWT_KEYS, or set "
                "HOLDLINE_HOST=127.0.0.1 and put a proxy that authenticates in front"
            )
        catalog = shared_config.catalog(environ)
        try:
            prompts = templates(catalog.prompts, catalog.knows)
        except InvalidTable as error:
            raise ConfigError(f"HOLDLINE_MODELS={environ['HOLDLINE_MODELS']}: {error}") from None
        return cls(
            redis_url=shared_config.redis_url(environ),
            host=host,
            port=env.whole(environ, "HOLDLINE_PORT"),
            processes=env.whole(environ, "HOLDLINE_PROCESSES"),
            catalog=catalog,
            templates=prompts,
            ping_seconds=env.number(environ, "HOLDLINE_PING_SECONDS"),
            max_body_bytes=env.whole(environ, "HOLDLINE_MAX_BODY_BYTES"),
            max_context_bytes=env.whole(environ, "HOLDLINE_MAX_CONTEXT_BYTES"),
            max_output_bytes=env.whole(environ, "HOLDLINE_MAX_OUTPUT_BYTES"),
            max_sockets=env.whole(environ, "HOLDLINE_MAX_SOCKETS"),
            unstored_seconds=env.number(environ, "HOLDLINE_UNSTORED_SECONDS"),
            request_seconds=env.number(environ, "HOLDLINE_REQUEST_SECONDS"),
            grace_seconds=env.number(environ, "HOLDLINE_SHUTDOWN_GRACE_SECONDS"),
            delay_seconds=env.number(environ, "HOLDLINE_SHUTDOWN_DELAY_SECONDS"),
            wait_replicas=env.whole(environ, "HOLDLINE_WAIT_REPLICAS"),
            origins=_origins(env.text(environ, "HOLDLINE_ALLOWED_ORIGINS")),
            hosts=_hosts(env.text(environ, "HOLDLINE_ALLOWED_HOSTS"), closed=access.closed),
            access=access,
            shared=shared_config.shared_settings(environ),
            audit_retention_ms=env.milliseconds(environ, "HOLDLINE_AUDIT_RETENTION_SECONDS"),
            cipher=shared_config.cipher(environ),
            request_log=cast("RequestLogMode", env.text(environ, "HOLDLINE_REQUEST_LOG")),
            push=_push(environ),
        )


def _push(environ: Mapping[str, str]) -> PushConfig:
    """Reads the settings for subscriptions to pushes. Raises: ConfigError."""
    return PushConfig(
        server_keys=tuple(shared_config.vapid_keys(environ)),
        devices=shared_config.push_devices(environ),
        services=tuple(env.text(environ, "HOLDLINE_PUSH_SERVICES").lower().split()),
        allow_private=env.text(environ, "HOLDLINE_PUSH_ALLOW_PRIVATE") == "1",
    )


def _proxies(written: str) -> tuple[Network, ...]:
    """Returns the proxies that are trusted to report client addresses. Raises: ConfigError."""
    try:
        return networks(written)
    except ValueError as error:
        raise ConfigError(
            f"HOLDLINE_TRUSTED_PROXIES: {error}; write addresses and networks, separated by "
            "commas, such as 127.0.0.1,10.0.0.0/8"
        ) from None


def _origins(written: str) -> tuple[str, ...]:
    """Parses a comma-separated list of origins and returns them in the spelling of browsers.

    Raises: ConfigError.
    """
    return tuple(_origin(part.strip()) for part in written.split(",") if part.strip())


def _hosts(written: str, *, closed: bool) -> frozenset[str] | None:
    """Returns the allowed host names in addition to loopback names; None allows any host name.

    Raises: ConfigError.
    """
    hosts = set()
    for part in filter(None, map(str.strip, written.split(","))):
        host = canonical_host(part)
        if host is None or not re.fullmatch(r"[^:]*|\[[^\]]*\]", part):
            raise ConfigError(
                f"HOLDLINE_ALLOWED_HOSTS contains {part!r}; write host names without scheme, port "
                "and path, separated by commas, such as chat.example"
            )
        hosts.add(host)
    return frozenset(hosts) if hosts or not closed else None


def _origin(written: str) -> str:
    origin = canonical(written)
    if origin is None:
        raise ConfigError(
            f"HOLDLINE_ALLOWED_ORIGINS contains {written!r}; {_origin_advice(written)}"
        )
    return origin


def _origin_advice(written: str) -> str:
    if "*" in written:
        return (
            "wildcards are not supported: write each allowed site, separated by commas, such as "
            "https://shop.example,https://www.shop.example"
        )
    scheme, _, rest = written.rpartition("://")
    scheme = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme)
    # Keeps only the host and the port of the URL.
    host = re.split(r"[/?#]", rest)[0].rpartition("@")[2]
    schemes = (scheme,) if scheme else ("https", "http")
    sites = [site for each in schemes if (site := canonical(f"{each}://{host}"))]
    return "an origin has the form scheme://host[:port], without a path: write " + (
        " or ".join(sites) or "for example https://shop.example"
    )


def _file(name: str, path: str, parse: Callable[[str], _T]) -> LiveFile[_T]:
    """Reads a file that is watched for changes. Raises: ConfigError."""
    try:
        return LiveFile(path, parse)
    except ValueError as error:
        raise ConfigError(f"{name}={path}: {error}") from None


def _is_safe(url: str) -> bool:
    """Returns True if nobody on the network can alter the response from this URL."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    return secure and bool(host) and "@" not in parts.netloc
