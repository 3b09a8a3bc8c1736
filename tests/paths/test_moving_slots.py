"""Tests a cluster in which a slot is being moved key by key, as `redis-cli --cluster reshard` does.

Meanwhile, two masters have a part of the keys each. Redis refuses a command if one of its keys is
not on the node that it was sent to, but it does not know the keys that a script accesses without
declaring them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from jobs.errors import RedisAway, RedisNotReady
from jobs.log.codec import decode_job
from jobs.names import Partition
from jobs.record import Status
from jobs.redis.pipe import Pipe
from jobs.scripts import SCRIPTS, Call, calls
from server.live.relay import Relay
from tests.jobs.factories import end_entry
from tests.paths.redis_faults.store import Snapshot, Store
from tests.paths.topologies.relays import (
    assert_all_receive,
    begun,
    follow_all,
    in_slot_of,
    owner_of,
    relaying,
    say,
    say_at_last,
)
from tests.paths.topologies.several import Nodes, cluster, migrate_keys
from tests.system import wait_until

pytestmark = pytest.mark.timeout(120)

PARTITION = 0
SLOT = in_slot_of(PARTITION)
NAMES = Partition(PARTITION)


@contextlib.asynccontextmanager
async def moving() -> AsyncIterator[tuple[Nodes, Store, Store, Relay, Pipe]]:
    """Runs a relay on a cluster. Yields also the master of the slot that a test moves, and another.

    Nothing is moved yet.
    """
    async with cluster() as nodes, relaying(nodes.url) as (relay, pipe):
        source = owner_of(PARTITION, nodes)
        target = next(node for node in nodes.masters if node is not source)
        yield nodes, source, target, relay, pipe


def call_of(name: str) -> Call:
    """Returns a call to a script with keys of the partition and with arguments of no meaning."""
    script = SCRIPTS[name]
    named = {key: f"{NAMES.prefix}{key}" for key in script.keys}
    named |= {name: NAMES.prefix if name == "prefix" else "1" for name in script.args}
    rest: dict[str, list[str]] = {script.rest: []} if script.rest else {}
    made: Call = getattr(calls, name)(**named, **rest)
    return made


def contents(snapshot: Snapshot) -> dict[bytes, bytes]:
    """Returns all data of a master without the TTLs, which change with time."""
    return {key: data for key, (_, data) in snapshot.items()}


async def test_redis_runs_no_script_on_a_part_of_a_partition() -> None:
    async with moving() as (nodes, source, target, _, pipe):
        writer = await begun(pipe, PARTITION)
        await say(writer, "before")
        used = await source.call("CLUSTER", "GETKEYSINSLOT", SLOT, 1000)
        # All keys that the scripts declare stay. The keys that they only read have moved.
        declared = {f"{NAMES.prefix}{key}" for one in SCRIPTS.values() for key in one.keys}
        for key in declared - {key.decode() for key in used}:
            await source.call("SET", key, "1")
        await nodes.begin_move(SLOT, source, target)
        moved = [key for key in used if key.decode() not in declared]
        await source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moved)
        before = contents(await source.snapshot())
        for name in SCRIPTS:
            sent = pipe.begin(call_of(name))
            assert sent is not None
            with pytest.raises(RedisNotReady, match="TRYAGAIN"):
                await sent
        assert before == contents(await source.snapshot())
        assert set(moved) == set(await target.call("CLUSTER", "GETKEYSINSLOT", SLOT, 1000))


async def test_a_script_waits_until_its_slot_has_moved() -> None:
    async with moving() as (nodes, source, target, relay, pipe):
        [(writer, sink)] = await follow_all(relay, pipe, 1, [PARTITION])
        others = await follow_all(relay, pipe, 2, [1, 2])
        await nodes.begin_move(SLOT, source, target)
        assert await migrate_keys(SLOT, source, target, 3)
        waiting = asyncio.create_task(say(writer, "meanwhile"))
        await assert_all_receive(others, "not delayed")
        assert not waiting.done()
        await nodes.end_move(SLOT, source, target)
        await waiting
        await wait_until(lambda: writer.length == len(sink.frames))
        assert "meanwhile" == sink.events[-1]["delta"]
        await assert_all_receive([(writer, sink), *others], "after")
        assert [] == await source.call("CLUSTER", "GETKEYSINSLOT", SLOT, 1)


async def test_a_script_fails_after_its_deadline_if_its_slot_is_still_moving(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with moving() as (nodes, source, target, _, pipe):
        writer = await begun(pipe, PARTITION)
        monkeypatch.setattr(pipe, "_deadline", 1.0)
        await nodes.begin_move(SLOT, source, target)
        while await migrate_keys(SLOT, source, target, 100):
            pass
        with pytest.raises(RedisAway):
            await say(writer, "too early")
        with pytest.raises(RedisAway):
            await pipe.call("EXISTS", NAMES.job(writer.response_id))
        await nodes.end_move(SLOT, source, target)
        await say(writer, "in time")


async def test_a_single_command_waits_until_its_slot_has_moved() -> None:
    async with moving() as (nodes, source, target, _, pipe):
        writer = await begun(pipe, PARTITION)
        await nodes.begin_move(SLOT, source, target)
        while await migrate_keys(SLOT, source, target, 100):
            pass
        reading = asyncio.create_task(pipe.call("EXISTS", NAMES.job(writer.response_id)))
        await asyncio.sleep(0.3)  # the command is refused several times
        assert not reading.done()
        await nodes.end_move(SLOT, source, target)
        assert 1 == await reading


async def test_a_master_without_the_scripts_runs_them_after_a_move() -> None:
    async with moving() as (nodes, source, target, relay, pipe):
        followed = await follow_all(relay, pipe, 3, [PARTITION])
        for node in nodes.masters:
            await node.call("SCRIPT", "FLUSH")
        await nodes.begin_move(SLOT, source, target)
        assert await migrate_keys(SLOT, source, target, 3)
        saying = asyncio.gather(*(say_at_last(writer, "moved") for writer, _ in followed))
        await asyncio.sleep(0.3)  # the scripts are refused several times
        await nodes.end_move(SLOT, source, target)
        await target.call("SCRIPT", "FLUSH")
        await saying
        await assert_all_receive(followed, "after")
        writer, _ = followed[0]
        job = decode_job(await pipe.call("HGET", NAMES.job(writer.response_id), "job"))
        await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)


async def test_subscriptions_may_end_and_begin_while_their_slot_moves() -> None:
    """The old master refuses to end subscriptions that it has ended by itself."""
    async with moving() as (nodes, source, target, relay, pipe):
        followed = await follow_all(relay, pipe, 4, [PARTITION])
        await nodes.begin_move(SLOT, source, target)
        while await migrate_keys(SLOT, source, target, 100):
            pass
        feeds = [relay.feed(writer.response_id) for writer, _ in followed[:2]]
        moved = asyncio.create_task(nodes.end_move(SLOT, source, target))
        turns = 0
        while not moved.done():
            for feed in feeds:
                relay.subscriber.unsubscribe(feed.channel)
                relay.subscriber.subscribe(feed.channel, feed.notify, feed.gap)
            turns += 1
            await asyncio.sleep(0)
        assert turns > 10
        await moved
        await assert_all_receive(followed, "after")
        assert relay.subscriber.healthy


async def test_a_subscription_that_ends_after_the_move_does_not_return() -> None:
    async with moving() as (nodes, source, target, relay, pipe):
        [(writer, sink), *others] = await follow_all(relay, pipe, 2, [PARTITION])
        await nodes.begin_move(SLOT, source, target)
        await nodes.end_move(SLOT, source, target)
        relay.subscriber.unsubscribe(relay.feed(writer.response_id).channel)
        received = len(sink.frames)
        await say(writer, "not heard")
        await assert_all_receive(others, "after")
        assert received == len(sink.frames)
        for node in nodes.masters:
            channel = NAMES.notifications(writer.response_id)
            assert [channel.encode(), 0] == await node.call("PUBSUB", "SHARDNUMSUB", channel)
