"""Tests that the doctor finds a Redis that loses data, with a real Redis that has the fault."""

from __future__ import annotations

import pytest

from admin.doctor import redis_storage
from admin.doctor.findings import Level, Node
from command.up.redis import embedded_redis
from jobs.redis.pipe import Pipe
from tests.admin.doctor.single_check import assert_actionable, finding_of, findings_of
from tests.paths.redis_faults import store as stores
from tests.paths.topologies.several import SLOTS, cluster

BROKEN, WARNING, OK = Level.BROKEN, Level.WARNING, Level.OK


@pytest.mark.parametrize(
    ("options", "level", "seen"),
    [
        ((), BROKEN, "append-only file is off"),
        (("--appendonly", "yes", "--appendfsync", "no"), WARNING, "appendfsync is no"),
        (("--appendonly", "yes"), OK, "appendfsync everysec, a crash of the machine loses up to"),
        (("--appendonly", "yes", "--appendfsync", "always"), OK, "appendfsync always"),
    ],
)
async def test_persistence_decides_what_a_restart_loses(
    options: tuple[str, ...], level: Level, seen: str
) -> None:
    async with embedded_redis(None, *options) as url:
        finding = await finding_of(redis_storage.persistence, {"REDIS_URL": url})
    assert (level, True) == (finding.level, seen in finding.seen)
    assert (level is OK) == (not finding.command)


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ({"aof_enabled": "1", "aof_last_write_status": "err"}, "append-only file failed"),
        ({"aof_enabled": "1", "rdb_last_bgsave_status": "err"}, "the last snapshot failed"),
    ],
)
def test_failed_writes_to_disk_break_a_promise(
    pipe: Pipe, fields: dict[str, str], seen: str
) -> None:
    *_, finding = redis_storage._persistence(Node(pipe, "", fields, None))
    assert_actionable(finding, BROKEN, seen)


async def test_memory_without_a_limit_and_full_memory_are_risks(pipe: Pipe, redis_url: str) -> None:
    environ = {"REDIS_URL": redis_url}
    [finding] = await findings_of(redis_storage.memory, environ)
    assert_actionable(finding, WARNING, "maxmemory is not set")
    await pipe.call("SET", "holdline:{0}:filler", "x" * 4_000_000, "PX", 60_000)
    used = 6 * 1_048_576
    try:
        await pipe.call("CONFIG", "SET", "maxmemory", used)
        [finding] = await findings_of(redis_storage.memory, environ)
        assert_actionable(finding, WARNING, "% of maxmemory")
        await pipe.call("CONFIG", "SET", "maxmemory", 100 * used)
        [finding] = await findings_of(redis_storage.memory, environ)
        assert OK is finding.level
        await pipe.call("CONFIG", "SET", "maxmemory", 1 << 50)
        [finding] = await findings_of(redis_storage.memory, environ)
        assert_actionable(finding, WARNING, "maxmemory exceeds the machine's")
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", 0)


def test_fragmented_memory_is_a_risk_unless_redis_is_nearly_empty(pipe: Pipe) -> None:
    fields = {"used_memory": "1000", "maxmemory": "5000", "mem_fragmentation_ratio": "2.5"}
    large = fields | {"used_memory_rss": str(1 << 30)}
    *_, finding = redis_storage._memory(Node(pipe, "", large, None))
    assert_actionable(finding, WARNING, "fragmented by a factor of 2.5")
    assert 1 == len(list(redis_storage._memory(Node(pipe, "", fields, None))))


async def test_replicas_are_compared_with_the_settings_that_need_them() -> None:
    async with stores.running(tcp=True) as master, stores.running(tcp=True) as replica:
        environ = {"REDIS_URL": master.url}
        assert "no replicas" == (await finding_of(redis_storage.replicas, environ)).seen
        wanting = environ | {"HOLDLINE_WAIT_REPLICAS": "1"}
        finding = await finding_of(redis_storage.replicas, wanting)
        assert_actionable(finding, BROKEN, "0 of 0 replicas are online, but HOLDLINE_WAIT")
        await master.call("CONFIG", "SET", "min-replicas-to-write", 1)
        finding = await finding_of(redis_storage.replicas, environ)
        assert_actionable(finding, BROKEN, "min-replicas-to-write is 1")

        await replica.replicate(master.url)
        finding = await finding_of(redis_storage.replicas, wanting)
        assert (OK, "1 of 1 replicas are online") == (finding.level, finding.seen)
        assert OK is (await finding_of(redis_storage.replicas, environ)).level
        await master.call("CONFIG", "SET", "min-replicas-to-write", 0)
        finding = await finding_of(redis_storage.replicas, environ)
        assert_actionable(finding, WARNING, "neither HOLDLINE_WAIT_REPLICAS nor min-replicas")

        finding = await finding_of(redis_storage.replicas, {"REDIS_URL": replica.url})
        assert_actionable(finding, BROKEN, f"a replica of 127.0.0.1:{master.port}")


def test_a_replica_that_lags_is_a_risk(pipe: Pipe) -> None:
    listed = {"slave0": "ip=10.0.0.2,port=6379,state=online,offset=1,lag=45"}
    *_, finding = redis_storage._replicas(Node(pipe, "", listed, None), 1)
    assert_actionable(finding, WARNING, "10.0.0.2 lags by 45 s")


async def test_partitions_without_a_cluster_are_a_risk(redis_url: str) -> None:
    environ = {"REDIS_URL": redis_url}
    assert OK is (await finding_of(redis_storage.slots, environ)).level
    finding = await finding_of(redis_storage.slots, environ | {"HOLDLINE_PARTITIONS": "16"})
    assert_actionable(finding, WARNING, "HOLDLINE_PARTITIONS is 16, but Redis is not a cluster")


async def test_the_partitions_of_a_cluster_need_masters_with_their_slots() -> None:
    async with cluster() as nodes:
        environ = {"REDIS_URL": nodes.url, "HOLDLINE_PARTITIONS": "32"}
        finding = await finding_of(redis_storage.slots, environ)
        assert (OK, "32 partitions on 3 masters") == (finding.level, finding.seen)
        finding = await finding_of(redis_storage.slots, environ | {"HOLDLINE_PARTITIONS": "1"})
        assert_actionable(finding, WARNING, "2 of 3 masters have no partition")
        finding = await finding_of(redis_storage.slots, {"REDIS_URL": nodes.masters[0].url})
        assert_actionable(finding, BROKEN, "Redis is a cluster, but REDIS_URL is not")

        persistence = await findings_of(redis_storage.persistence, environ)
        labels = {f"master on port {node.port}" for node in nodes.masters}
        assert labels == {finding.seen.partition(": ")[0] for finding in persistence}

        share = SLOTS // 3
        # The owner forgets its slots first; otherwise it would announce them to the others again.
        first, owner, last = nodes.masters
        for node in (owner, first, last):
            await node.call("CLUSTER", "DELSLOTSRANGE", share, 2 * share - 1)
        findings = await findings_of(redis_storage.slots, environ)
        assert any(
            finding.level is BROKEN and "partitions are in slots without a master" in finding.seen
            for finding in findings
        )
