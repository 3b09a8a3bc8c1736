"""Checks that Redis keeps what it has acknowledged: persistence, memory, replicas and slots."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from jobs.names import Partition
from jobs.redis.cluster import Cluster

from .findings import broken, ok, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from .findings import Context, Finding, Node

FULL: Final = 0.8  # the part of `maxmemory` from which on the memory is nearly full
FRAGMENTED: Final = 1.5
# Below this size, the overhead of an empty Redis looks like fragmentation.
MIN_FRAGMENTED_BYTES: Final = 256 * 1_048_576
MAX_LAG_SECONDS: Final = 10
MIB: Final = 1_048_576
_REPLICA: Final = re.compile(r"slave\d+")


async def persistence(context: Context) -> AsyncIterator[Finding]:
    """Checks the append-only file and the snapshots of each master."""
    for node in context.nodes:
        for finding in _persistence(node):
            yield finding


def _persistence(node: Node) -> Iterator[Finding]:
    if node.info.get("aof_enabled") != "1":
        seen = f"{node.label}the append-only file is off"
        command = "redis-cli CONFIG SET appendonly yes && redis-cli CONFIG REWRITE"
        if node.number("connected_slaves"):
            why = "if all nodes restart together, accepted prompts and answers are lost"
            yield warning(seen, why, command, "G1")
        else:
            yield broken(seen, "a restart of Redis loses accepted prompts", command, "G1")
    elif node.info.get("aof_last_write_status", "ok") != "ok":
        why = "Redis refuses all writes, so no prompt is accepted and no answer continues"
        seen = f"{node.label}the last write to the append-only file failed"
        yield broken(seen, why, "redis-cli INFO persistence; df -h", "G1")
    elif (policy := node.config and node.config.get("appendfsync")) == "no":
        why = "a crash of the machine loses the writes of about 30 seconds"
        command = "redis-cli CONFIG SET appendfsync everysec && redis-cli CONFIG REWRITE"
        yield warning(f"{node.label}appendfsync is no", why, command, "G1")
    else:
        lost = {"everysec": ", a crash of the machine loses up to one second"}.get(policy or "", "")
        yield ok(f"{node.label}append-only file, appendfsync {policy or 'not known'}{lost}")
    if node.info.get("rdb_last_bgsave_status", "ok") != "ok":
        why = "with stop-writes-on-bgsave-error, Redis refuses all writes"
        seen = f"{node.label}the last snapshot failed"
        yield broken(seen, why, "redis-cli INFO persistence; df -h", "G1")


async def memory(context: Context) -> AsyncIterator[Finding]:
    """Checks the memory limit of each master, and how much of it is used."""
    for node in context.nodes:
        for finding in _memory(node):
            yield finding


def _memory(node: Node) -> Iterator[Finding]:
    used, most, system = (
        node.number(name) for name in ("used_memory", "maxmemory", "total_system_memory")
    )
    shown = f"{node.label}{used / MIB:.0f} MiB of memory used"
    command = "redis-cli CONFIG SET maxmemory 4gb && redis-cli CONFIG REWRITE"
    if not most:
        why = "Redis grows until the system kills it, instead of refusing further prompts"
        yield warning(f"{shown}, maxmemory is not set", why, command, "G12")
    elif used >= FULL * most:
        why = "when the memory is full, servers answer 503 and running answers pause"
        seen = f"{shown}, {used / most:.0%} of maxmemory"
        yield warning(seen, why, "redis-cli MEMORY DOCTOR", "G12")
    elif system and most > system:
        why = "the system kills Redis before Redis refuses further prompts"
        seen = f"{shown}, maxmemory exceeds the machine's {system / MIB:.0f} MiB"
        yield warning(seen, why, command, "G12")
    else:
        yield ok(f"{shown}, {used / most:.0%} of maxmemory")
    ratio = node.number("mem_fragmentation_ratio")
    if ratio > FRAGMENTED and node.number("used_memory_rss") > MIN_FRAGMENTED_BYTES:
        why = "the machine needs more memory than maxmemory says"
        seen = f"{node.label}the memory is fragmented by a factor of {ratio:.1f}"
        yield warning(seen, why, "redis-cli CONFIG SET activedefrag yes")


async def replicas(context: Context) -> AsyncIterator[Finding]:
    """Compares the replicas of each master with the settings that require them."""
    wanted = context.server.wait_replicas if context.server else 0
    for node in context.nodes:
        for finding in _replicas(node, wanted):
            yield finding


def _replicas(node: Node, wanted: int) -> Iterator[Finding]:
    if node.info.get("role") == "slave":
        master = f"{node.info.get('master_host')}:{node.info.get('master_port')}"
        seen = f"{node.label}REDIS_URL leads to a replica of {master}"
        yield broken(seen, "a replica refuses writes", f"export REDIS_URL=redis://{master}/0", "G1")
        return
    listed = [value for name, value in node.info.items() if _REPLICA.fullmatch(name)]
    online = [one for one in listed if "state=online" in one]
    least = int((node.config or {}).get("min-replicas-to-write", "0"))
    count = f"{node.label}{len(online)} of {len(listed)} replicas are online"
    command = "redis-cli INFO replication"
    if wanted > len(online):
        seen = f"{count}, but HOLDLINE_WAIT_REPLICAS is {wanted}"
        yield broken(seen, "every prompt gets 503 not_replicated", command, "G1")
    elif least > len(online):
        seen = f"{count}, but min-replicas-to-write is {least}"
        yield broken(seen, "Redis refuses all writes with NOREPLICAS", command, "G1")
    elif listed and not wanted and not least:
        why = "a failover can lose acknowledged prompts"
        way = "redis-cli CONFIG SET min-replicas-to-write 1"
        seen = f"{count}; neither HOLDLINE_WAIT_REPLICAS nor min-replicas-to-write is set"
        yield warning(seen, why, way, "G1")
    else:
        yield ok(count if listed else f"{node.label}no replicas")
    for one in listed:
        fields = dict(part.partition("=")[::2] for part in one.split(","))
        if (lag := int(fields.get("lag", "0"))) > MAX_LAG_SECONDS:
            why = "a failover to this replica loses what it has not received"
            seen = f"{node.label}the replica {fields.get('ip')} lags by {lag} s"
            yield warning(seen, why, command, "G1")


async def slots(context: Context) -> AsyncIterator[Finding]:
    """Checks that REDIS_URL fits the kind of Redis, and that each partition has a master."""
    if not context.nodes or context.redis is None or context.pipe is None:
        return
    count, mode = len(context.partitions), _mode(context.nodes[0])
    if not isinstance(context.redis, Cluster):
        if mode == "cluster":
            command = "export REDIS_URL=redis+cluster://HOST:PORT"
            why = "commands for keys of other nodes fail with MOVED"
            yield broken(
                "Redis is a cluster, but REDIS_URL is not redis+cluster://", why, command, "G1"
            )
        elif count > 1:
            why = "limits and shares are counted for each partition, and polls cost more"
            seen = f"HOLDLINE_PARTITIONS is {count}, but Redis is not a cluster"
            yield warning(seen, why, "export HOLDLINE_PARTITIONS=1", "G10")
        else:
            yield ok("one Redis with one partition")
        return
    state = await _cluster_state(context)
    if state != "ok":
        why = "the cluster refuses commands while slots have no master"
        yield broken(f"the state of the cluster is {state}", why, "redis-cli CLUSTER INFO", "G1")
    places = [context.redis.node_of(Partition(number).prefix) for number in context.partitions]
    if lost := places.count(None):
        seen = f"{lost} of {count} partitions are in slots without a master"
        why = "requests for responses in these partitions fail"
        yield broken(seen, why, "redis-cli --cluster fix HOST:PORT", "G1")
    empty = len(context.redis.masters - set(places))
    if empty:
        seen = f"{empty} of {len(context.redis.masters)} masters have no partition"
        why = "these masters do no work"
        masters = len(context.redis.masters)
        yield warning(seen, why, f"export HOLDLINE_PARTITIONS={5 * masters}  # in all processes")
    if state == "ok" and not lost and not empty:
        yield ok(f"{count} partitions on {len(context.redis.masters)} masters")


def _mode(node: Node) -> str:
    return node.info.get("server_mode") or node.info.get("redis_mode", "standalone")


async def _cluster_state(context: Context) -> str:
    assert context.pipe is not None  # noqa: S101 - the caller has checked it
    reply = await context.pipe.call("CLUSTER", "INFO")
    found = re.search(rb"cluster_state:(\w+)", reply)
    return found[1].decode() if found else "unknown"
