"""Checks that Redis can be reached and used, and reads its state for the other checks."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING

from jobs.config.shared_config import hide
from jobs.errors import RedisAway, RedisRefused, RedisUnsuitable
from jobs.names import Partition
from jobs.notifications import subscriber
from jobs.redis.check import check, info_fields
from jobs.redis.cluster import Cluster
from jobs.redis.permissions import ADMIN, CLUSTER, NEEDED, SENTINEL, denied

from .findings import Node, broken, ok, unknown, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from jobs.redis.connection import Redis
    from jobs.redis.pipe import Pipe

    from .findings import Context, Finding

SETTINGS = (
    *("appendfsync", "client-output-buffer-limit", "min-replicas-to-write", "tcp-keepalive"),
    "timeout",
)
CONFIG_SET = re.compile(r"CONFIG SET .+")
DELIVERY_SECONDS = 5.0


async def reach(context: Context) -> AsyncIterator[Finding]:
    """Runs the check of servers and workers at start-up, and reads the state of each master."""
    pipe, url = (
        context.pipe,
        hide(context.environ.get("REDIS_URL", "") or "redis://127.0.0.1:6379/0"),
    )
    if pipe is None:
        yield unknown("REDIS_URL is invalid")
        return
    try:
        nodes = await pipe.nodes()
        found = [info_fields(await node.call("INFO")) for node in nodes]
    except RedisAway as error:
        why = "servers accept no prompts, and workers store no output"
        command = (
            "redis-cli CLUSTER INFO" if isinstance(context.redis, Cluster) else "redis-cli ping"
        )
        yield broken(f"{url} cannot be used: {error}", why, command, "G1")
        return
    except RedisRefused as error:
        yield broken(
            f"{url} refuses the user: {error}", "no process can start", "redis-cli ACL WHOAMI", "G1"
        )
        return
    context.nodes = [
        Node(node, _label(fields, len(nodes)), fields, await _config(node))
        for node, fields in zip(nodes, found, strict=True)
    ]
    try:
        yield ok(f"{url}: {await check(pipe)}")
    except (RedisUnsuitable, RedisRefused) as error:
        advice = CONFIG_SET.search(str(error))
        command = f"redis-cli {advice[0]}" if advice else "holdline check --program server"
        yield broken(str(error), "no server or worker starts", command, "G8")
    except RedisAway as error:
        why = "servers refuse prompts, and workers pause, as long as Redis refuses commands"
        yield broken(f"{url}: {error}", why, "redis-cli INFO", "G1")
    if any(node.config is None for node in context.nodes):
        yield unknown(
            f"the Redis user may not run CONFIG GET, so {', '.join(SETTINGS)} cannot be read",
            "redis-cli ACL SETUSER holdline +config|get",
        )


async def permissions(context: Context) -> AsyncIterator[Finding]:
    """Checks that the Redis user may run every command that Holdline needs, without running it."""
    scheme = context.environ.get("REDIS_URL", "").partition(":")[0]
    names = (
        *NEEDED,
        *(SENTINEL if "sentinel" in scheme else ()),
        *(CLUSTER if "cluster" in scheme else ()),
    )
    missing: set[str] = set()
    optional: set[str] = set()
    try:
        for node in context.nodes:
            missing |= set(await denied(node.pipe, names))
            optional |= set(await denied(node.pipe, ADMIN))
    except RedisRefused as error:  # the permissions are checked by a script
        why = "every transition of a job is a script"
        command = "redis-cli ACL SETUSER holdline '+evalsha' '+eval' '~holdline:*'"
        yield broken(f"the Redis user may not run scripts: {error}", why, command, "G1")
        return
    if missing:
        yield broken(
            f"the Redis user may not run {', '.join(sorted(missing))}",
            "requests that need these commands fail",
            _grant(missing),
            "G1",
        )
    else:
        yield ok("the Redis user may run every command that Holdline needs")
    if "scan" in optional:
        why = "holdline subject cannot find the data of an end user"
        yield warning("the Redis user may not run scan", why, _grant({"scan"}))


async def notifications(context: Context) -> AsyncIterator[Finding]:
    """Subscribes to a channel of each partition, and waits for a message on each of them."""
    if context.redis is None or context.pipe is None:
        return
    if await _delivered(context.redis, context.pipe, context.partitions):
        yield ok("sharded pub/sub delivers messages in each partition")
    else:
        yield broken(
            f"sharded pub/sub delivered no message within {DELIVERY_SECONDS:g} s",
            "clients get text only when a server reads the log, after HOLDLINE_PING_SECONDS",
            "redis-cli SSUBSCRIBE 'holdline:{0}:cancels'",
            "G12",
        )


async def _delivered(redis: Redis, pipe: Pipe, partitions: range) -> bool:
    async with subscriber(redis, pipe, partitions) as found:

        async def send(number: int) -> None:
            channel = Partition(number).probe(f"doctor-{secrets.token_hex(4)}")
            subscribed, received = asyncio.Event(), asyncio.Event()
            found.subscribe(channel, lambda _: received.set(), subscribed.set)
            await subscribed.wait()
            await pipe.call("SPUBLISH", channel, "")
            await received.wait()

        try:
            async with asyncio.timeout(DELIVERY_SECONDS), asyncio.TaskGroup() as group:
                for number in partitions:
                    group.create_task(send(number))
        except TimeoutError:
            return False
        return True


async def _config(pipe: Pipe) -> Mapping[str, str] | None:
    try:
        flat = await pipe.call("CONFIG", "GET", *SETTINGS)
    except RedisRefused:
        return None
    texts = [part.decode() for part in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _label(fields: Mapping[str, str], masters: int) -> str:
    return f"master on port {fields.get('tcp_port', '?')}: " if masters > 1 else ""


def _grant(names: set[str]) -> str:
    rules = " ".join(f"'+{name}'" for name in sorted(names))
    return f"redis-cli ACL SETUSER holdline {rules}"
