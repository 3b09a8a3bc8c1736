"""Checks the settings: whether they are valid, risky together, or defaults unfit for production."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobs.config.environ import with_source
from jobs.config.models import DAY
from jobs.config.settings import ConfigError, ignored_links
from jobs.names import Partition
from server.config import Config as ServerConfig
from server.origin import is_loopback
from worker.config import load

from .findings import SERVER, WORKER, broken, ok, unknown, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from server.config import AuthConfig
    from worker.config import Config as WorkerConfig

    from .findings import Context, Finding

MIN_LEASE_MS: Final = 5000
LONG_TOKEN_SECONDS: Final = DAY / 2


async def source(context: Context) -> AsyncIterator[Finding]:
    """Reports which settings the other checks examine."""
    found = with_source(context.environ)
    if found.other:
        yield warning(
            f"checked {found.source}, but `holdline up` runs with other settings",
            "the findings may not apply to it",
            found.other,
        )
    else:
        yield ok(f"checked {found.source}")


async def valid(context: Context) -> AsyncIterator[Finding]:
    """Reads the settings as a server and a worker would."""
    for name in ignored_links(context.environ):
        yield warning(
            f"{name} is ignored, because Kubernetes or Docker has set it as a service link",
            "the setting has its default value",
            "set enableServiceLinks: false, or rename the service",
        )
    if SERVER in context.programs:
        try:
            context.server = ServerConfig.from_environ(context.environ)
            yield ok("the settings of the server are valid")
        except ConfigError as error:
            yield broken(str(error), "no server starts", "holdline check --program server", "G1")
    if WORKER in context.programs:
        try:
            context.worker = load(context.environ)
            yield ok("the settings of the worker are valid")
        except ConfigError as error:
            yield broken(str(error), "no worker starts", "holdline check --program worker", "G1")


async def production(context: Context) -> AsyncIterator[Finding]:
    """Names the settings that a production needs to change, and those that are risky together."""
    found = [
        *(_of_server(context.server) if context.server else ()),
        *(_of_worker(context.worker) if context.worker else ()),
    ]
    for finding in found or [ok("no setting is risky")]:
        yield finding


def _of_server(config: ServerConfig) -> Iterator[Finding]:
    access = config.access
    yield from _of_access(access)
    if not access.closed:
        why = "everyone who reaches the server may use it, and all callers share their responses"
        yield warning(
            "the server does not authenticate clients",
            why,
            "export HOLDLINE_API_KEYS=redis && holdline keys create TENANT",
            "G9",
        )
    if "null" in config.origins:
        why = "sandboxed frames and local files of any author may use the server"
        command = "export HOLDLINE_ALLOWED_ORIGINS=https://YOUR-SITE"
        yield warning("HOLDLINE_ALLOWED_ORIGINS contains null", why, command, "G9")
    if any(network.prefixlen == 0 for network in access.proxies):
        why = "every client can choose its own address, and so evade the limits of end users"
        command = "export HOLDLINE_TRUSTED_PROXIES=ADDRESS-OF-YOUR-PROXY"
        yield warning("HOLDLINE_TRUSTED_PROXIES trusts every address", why, command, "G10")
    shared = config.shared
    if access.closed and not (
        shared.tenant_running
        or shared.tenant_tokens
        or shared.tenant_money
        or shared.tenant_requests
    ):
        why = "one tenant can spend any amount of money; `holdline tenants` sets single limits"
        command = "export HOLDLINE_TENANT_REQUESTS_PER_MINUTE=600"
        yield warning("tenants have no limits by default", why, command, "G10")
    if not config.delay_seconds and not is_loopback(config.host):
        why = "during a restart, requests through a load balancer can fail"
        command = "export HOLDLINE_SHUTDOWN_DELAY_SECONDS=3"
        yield warning("HOLDLINE_SHUTDOWN_DELAY_SECONDS is 0", why, command)
    if config.cipher is None and not is_loopback(config.host):
        why = "Redis, its disk and its replicas contain prompts and answers as plain text"
        command = "openssl rand -base64 32 > /etc/holdline/encryption"
        yield warning("prompts and answers in Redis are not encrypted", why, command)
    if shared.cancel_orphans and shared.webhooks:
        why = "with webhooks, Holdline cancels no orphans"
        command = "export HOLDLINE_ON_ORPHAN=go_on"
        yield warning("HOLDLINE_ON_ORPHAN=cancel has no effect", why, command)
    if shared.lease_ms < MIN_LEASE_MS:
        why = "a short pause of a worker restarts its responses, which costs further model calls"
        seen = f"HOLDLINE_LEASE_SECONDS is {shared.lease_ms / 1000:g}"
        yield warning(seen, why, "export HOLDLINE_LEASE_SECONDS=15", "G5")
    if config.max_body_bytes > config.max_context_bytes:
        why = "the server reads bodies that it then refuses"
        seen = "HOLDLINE_MAX_BODY_BYTES exceeds HOLDLINE_MAX_CONTEXT_BYTES"
        command = f"export HOLDLINE_MAX_BODY_BYTES={config.max_context_bytes}"
        yield warning(seen, why, command, "G10")


def _of_access(access: AuthConfig) -> Iterator[Finding]:
    if access.jwks_url and not (access.rules.issuer and access.rules.audience):
        why = "the provider signs tokens for other services too, which the server then accepts"
        seen = "HOLDLINE_JWKS_URL is set without HOLDLINE_JWT_ISSUER and HOLDLINE_JWT_AUDIENCE"
        command = "export HOLDLINE_JWT_ISSUER=https://... HOLDLINE_JWT_AUDIENCE=..."
        yield warning(seen, why, command, "G9")
    if access.rules.max_seconds > LONG_TOKEN_SECONDS:
        why = "a stolen token stays valid for long, because tokens cannot be revoked one by one"
        seen = f"HOLDLINE_JWT_MAX_SECONDS is {access.rules.max_seconds:g}"
        yield warning(seen, why, "export HOLDLINE_JWT_MAX_SECONDS=3600", "G9")


def _of_worker(config: WorkerConfig) -> Iterator[Finding]:
    endpoints = [config.single] if config.single else list(config.endpoints.values())
    for endpoint in endpoints:
        name = f"[models.{endpoint.name}] " if endpoint.name else ""
        if endpoint.first_token_seconds > endpoint.timeout_seconds:
            why = "the time limit of the whole call always ends first"
            seen = (
                f"{name}the limit for the first token ({endpoint.first_token_seconds:g} s) exceeds "
                f"that of the call ({endpoint.timeout_seconds:g} s)"
            )
            command = f"export HOLDLINE_FIRST_TOKEN_SECONDS={endpoint.timeout_seconds:g}"
            yield warning(seen, why, command)
    if config.receiver is not None and config.receiver.allow_private:
        why = "anyone who controls the receiver's DNS name can reach addresses of your network"
        command = "unset HOLDLINE_WEBHOOK_ALLOW_PRIVATE"
        yield warning("webhooks may go to private addresses", why, command)
    if config.push.enabled and config.push.allow_private:
        why = "any user can make workers send requests to addresses of your network"
        command = "unset HOLDLINE_PUSH_ALLOW_PRIVATE"
        yield warning("pushes may go to private addresses", why, command)
    if config.max_unsent_bytes > config.max_output_bytes:
        why = "a response never has so much output"
        seen = "HOLDLINE_MAX_UNSENT_BYTES exceeds HOLDLINE_MAX_OUTPUT_BYTES"
        command = f"export HOLDLINE_MAX_UNSENT_BYTES={config.max_output_bytes}"
        yield warning(seen, why, command)


async def encryption(context: Context) -> AsyncIterator[Finding]:
    """Compares the encryption key with the one that the processes on this Redis use."""
    config = context.server or context.worker
    if context.pipe is None or config is None:
        yield unknown("the settings are invalid", "holdline check --program server")
        return
    used = (await context.pipe.call("GET", Partition(0).cipher) or b"").decode()
    cipher = config.cipher
    own = cipher.ids[0] if cipher else "plain"
    if used and used != own:
        why = "servers and workers write with different keys while both run"
        seen = f"the last started process encrypts with {used}, this environment with {own}"
        yield warning(seen, why, "restart all processes with the same HOLDLINE_ENCRYPTION_KEYS")
    else:
        yield ok(f"prompts and answers: {cipher or 'not encrypted'}")
