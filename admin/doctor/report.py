"""Runs all checks in order, each within its time limit, and formats the findings."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from jobs.config import shared_config
from jobs.config.settings import ConfigError
from jobs.errors import HoldlineError
from jobs.redis.url import redis_from_url
from runtime.logs import described

from . import (
    clock,
    keys,
    machine,
    models,
    packages,
    redis_network,
    redis_server,
    redis_storage,
    settings,
    workers,
)
from .findings import Check, Context, Finding, Level, unknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# The time limit of each command to Redis.
REDIS_SECONDS: Final = 3.0
CHECKS: Final = (
    Check("settings", settings.source),
    Check("settings", settings.valid),
    Check("production", settings.production),
    Check("machine: open files", machine.open_files),
    Check("machine: memory", machine.memory),
    Check("machine: cores", machine.cores),
    Check("machine: python", packages.python),
    Check("machine: packages", packages.packages),
    Check("redis", redis_server.reach),
    Check("redis: permissions", redis_server.permissions, needs_redis=True),
    Check("redis: persistence", redis_storage.persistence, needs_redis=True),
    Check("redis: memory", redis_storage.memory, needs_redis=True),
    Check("redis: replicas", redis_storage.replicas, needs_redis=True),
    Check("redis: partitions", redis_storage.slots, needs_redis=True),
    Check("redis: pub/sub", redis_server.notifications, needs_redis=True),
    Check("redis: latency", redis_network.latency, needs_redis=True),
    Check("redis: connections", redis_network.clients, needs_redis=True),
    Check("redis: limits", redis_network.limits, needs_redis=True),
    Check("redis: TLS", redis_network.encryption),
    Check("clock", clock.offset, needs_redis=True),
    Check("encryption", settings.encryption, needs_redis=True),
    Check("keys: services", keys.of_services),
    Check("keys: tokens", keys.of_signers),
    Check("keys: models", keys.of_models, seconds=40),
    Check("keys: files", keys.files),
    Check("models", models.endpoints, seconds=30),
    Check("workers", workers.live, needs_redis=True),
)


async def examine(
    context: Context, on_check: Callable[[str], None], checks: tuple[Check, ...] = CHECKS
) -> AsyncIterator[tuple[str, Finding]]:
    """Runs the checks, and yields the subject and each finding.

    Calls `on_check` with the subject before each check begins. A check that fails or takes too long
    yields an unknown finding and does not stop the others.
    """
    environ = context.environ
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(ConfigError):  # the check of the settings reports it
            url, cipher = shared_config.redis_url(environ), shared_config.cipher(environ)
            context.redis = redis_from_url(url, cipher)
            pipe = context.redis.pipe(deadline=REDIS_SECONDS)
            context.pipe = await stack.enter_async_context(pipe)
        for check in checks:
            on_check(check.subject)
            async for finding in _run(check, context):
                yield check.subject, finding


async def _run(check: Check, context: Context) -> AsyncIterator[Finding]:
    if check.needs_redis and not context.nodes:
        yield unknown("Redis cannot be used")
        return
    found: list[Finding] = []
    try:
        async with asyncio.timeout(check.seconds):
            # A list comprehension would lose the findings before an error.
            async for finding in check.run(context):
                found.append(finding)  # noqa: PERF401
    except TimeoutError:
        found.append(unknown(f"the check took longer than {check.seconds:g} s"))
    except HoldlineError as error:
        found.append(unknown(f"the check failed: {error}"))
    except Exception as error:  # noqa: BLE001 - its message may contain a secret
        found.append(unknown(f"the check failed: {described(error)}"))
    for finding in found:
        yield finding


def as_text(subject: str, finding: Finding) -> str:
    """Returns the lines for the terminal."""
    lines = [f"{finding.level:8} {subject:21} {finding.seen}"]
    if finding.level is not Level.OK:
        promise = f" ({finding.promise})" if finding.promise else ""
        lines += [f"{'':30} why: {finding.why}{promise}"] if finding.why else []
        lines += [f"{'':30} do:  {finding.command}"] if finding.command else []
    return "\n".join(lines)


def as_object(subject: str, finding: Finding) -> dict[str, Any]:
    """Returns a finding as a JSON object."""
    return {
        "level": str(finding.level),
        "subject": subject,
        "seen": finding.seen,
        "why": finding.why,
        "promise": finding.promise or None,
        "command": finding.command or None,
    }
