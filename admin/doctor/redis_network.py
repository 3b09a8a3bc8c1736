"""Checks the connections to Redis: their number, their limits, their delay and their encryption."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from server.origin import is_loopback

from .findings import broken, ok, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from .findings import Context, Finding

PINGS: Final = 20
SLOW_MS: Final = 5.0
# The connections of one process to a master: commands, notifications, and replication waits.
CONNECTIONS: Final = 3
NEARLY_ALL: Final = 0.8
# A notification has at most 32 KiB, but many of them may wait for a busy server.
MIN_BUFFER_BYTES: Final = 1_048_576
# Idle processes send a command at least every two seconds.
MIN_TIMEOUT_SECONDS: Final = 30


async def latency(context: Context) -> AsyncIterator[Finding]:
    """Measures round trips to each master."""
    for node in context.nodes:
        times = []
        for _ in range(PINGS):
            began = time.perf_counter()
            await node.pipe.call("PING")
            times.append(1000 * (time.perf_counter() - began))
        seen = f"{node.label}a round trip takes {median(times):.2f} ms, at most {max(times):.2f} ms"
        if median(times) > SLOW_MS:
            why = "each piece of text waits for a round trip of the worker"
            yield warning(seen, why, "redis-cli --latency")
        else:
            yield ok(seen)


async def clients(context: Context) -> AsyncIterator[Finding]:
    """Compares the number of connections with the limit of each master."""
    programs = (context.server, context.worker)
    need = CONNECTIONS * sum(program.processes for program in programs if program)
    for node in context.nodes:
        now, most = node.number("connected_clients"), node.number("maxclients")
        seen = f"{node.label}{now:.0f} of {most:.0f} possible connections are open"
        command = "redis-cli CONFIG SET maxclients 10000 && redis-cli CONFIG REWRITE"
        if not most:
            yield ok(f"{node.label}{now:.0f} connections are open; Redis states no limit")
        elif most < need:
            seen += f", but the settings start processes with {need} connections"
            yield broken(seen, "processes cannot connect", command, "G12")
        elif now > NEARLY_ALL * most:
            yield warning(seen, "further processes cannot connect", command, "G12")
        else:
            yield ok(seen)


async def limits(context: Context) -> AsyncIterator[Finding]:
    """Checks the settings with which Redis closes connections."""
    for node in context.nodes:
        if node.config is not None:
            found = list(_limits(node.label, node.config))
            for finding in found or [ok(f"{node.label}Redis closes no connection of Holdline")]:
                yield finding


def _limits(label: str, config: Mapping[str, str]) -> Iterator[Finding]:
    words = config.get("client-output-buffer-limit", "").split()
    if "pubsub" in words:
        hard = int(words[words.index("pubsub") + 1])
        command = "redis-cli CONFIG SET client-output-buffer-limit 'pubsub 33554432 8388608 60'"
        seen = f"{label}the client-output-buffer-limit of pubsub is {hard}"
        if not hard:
            why = "a server that does not read can fill the memory of Redis"
            yield warning(f"{seen}, which is no limit", why, command, "G11")
        elif hard < MIN_BUFFER_BYTES:
            why = "Redis disconnects a busy server, whose clients then wait for the next read"
            yield warning(f"{seen} bytes", why, command, "G12")
    if 0 < (seconds := int(config.get("timeout", "0"))) < MIN_TIMEOUT_SECONDS:
        why = "Redis closes connections that are idle for a moment"
        command = "redis-cli CONFIG SET timeout 0 && redis-cli CONFIG REWRITE"
        yield warning(f"{label}timeout is {seconds} s", why, command, "G12")
    if config.get("tcp-keepalive") == "0":
        why = "connections of dead machines stay open and count towards maxclients"
        command = "redis-cli CONFIG SET tcp-keepalive 300 && redis-cli CONFIG REWRITE"
        yield warning(f"{label}tcp-keepalive is off", why, command)


async def encryption(context: Context) -> AsyncIterator[Finding]:
    """Checks that nobody on the network can read prompts, answers and the password of Redis."""
    parts = urlsplit(context.environ.get("REDIS_URL", "") or "redis://127.0.0.1:6379/0")
    hosts = parts.netloc.rpartition("@")[2].split(",")
    names = [host.rpartition(":")[0].strip("[]") or host for host in hosts]
    if parts.scheme.startswith("rediss"):
        yield ok("the connections to Redis use TLS")
    elif parts.scheme == "unix" or all(is_loopback(name) for name in names):
        yield ok("the connections to Redis stay on this machine")
    else:
        what = "the password" if context.environ.get("HOLDLINE_ENCRYPTION_KEYS") else "all prompts"
        why = f"anyone on the network can read {what}, unless the network itself is encrypted"
        command = "export REDIS_URL=rediss://...  # Redis must listen with tls-port"
        yield warning("the connections to Redis do not use TLS", why, command)
