"""Tests notifications in a cluster: what they cost, and what they survive.

Counts do not depend on the machine, so they are bounded here, and not in the benchmark.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from functools import partial
from pathlib import Path

import pytest

from jobs.ids import new_response_id
from jobs.log.codec import decode_job
from jobs.log.events import begins
from jobs.log.log import LogWriter
from jobs.names import Partition
from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis import node_subscriber
from jobs.redis.pipe import Pipe
from jobs.redis.subscriber import Subscriber
from jobs.redis.url import redis_from_url
from jobs.replies import Grant
from tests.fake_model import FakeModel
from tests.jobs.factories import SETTINGS, end_entry, new_claim, opening
from tests.paths.redis_faults.store import Store
from tests.paths.topologies.relays import (
    PARTITIONS,
    assert_all_receive,
    begun,
    follow_all,
    in_slot_of,
    owner_of,
    relaying,
    say,
)
from tests.paths.topologies.several import Nodes, cluster
from tests.server.factories import RecordingSink
from tests.system import System, wait_until
from worker import wakeups
from worker.fleet_share import FleetSize
from worker.wakeups import WakeUps
from worker.worker import MAX_CLAIMED_AT_ONCE

pytestmark = pytest.mark.timeout(120)

EVENTS = 5
# The arguments of DEBUG DROP-CLUSTER-PACKET-FILTER.
DROP_ALL, DROP_NOTHING = -2, -1


def calls_in(said: bytes) -> Counter[str]:
    """Returns the number of calls of each command, from the reply to INFO commandstats."""
    found = re.findall(rb"cmdstat_(\S+):calls=(\d+)", said)
    return Counter({name.decode(): int(count) for name, count in found})


async def commands(nodes: Iterable[Store]) -> int:
    """Returns the number of commands that nodes have executed for clients and in scripts."""
    total = 0
    for node in nodes:
        calls = calls_in(await node.call("INFO", "commandstats"))
        # Every new connection loads all scripts, and every pipe reads the slot table at intervals.
        for name in ("info", "script|load", "client|setinfo", "cluster|info", "cluster|slots"):
            calls.pop(name, None)
        total += calls.total()
    return total


async def bus_messages(nodes: Iterable[Store]) -> int:
    """Returns the number of pub/sub messages that nodes have sent to each other."""
    total = 0
    for node in nodes:
        said = (await node.call("CLUSTER", "INFO")).decode()
        total += sum(map(int, re.findall(r"messages_publish\w*_sent:(\d+)", said)))
    return total


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[Pipe, Subscriber]]:
    redis = redis_from_url(url)
    async with redis.pipe() as pipe, subscriber(redis, pipe, range(PARTITIONS)) as notifications:
        await wait_until(lambda: pipe.connected and notifications.healthy)
        yield pipe, notifications


async def test_an_event_is_sent_to_no_other_master_and_once_to_each_replica() -> None:
    async with cluster(replicas=True) as nodes:
        everyone = [*nodes.masters, *nodes.replicas]
        async with relaying(nodes.url) as (relay, pipe):
            writers = [await begun(pipe, number) for number in range(PARTITIONS)]
            sinks = [RecordingSink() for _ in writers]
            for writer, sink in zip(writers, sinks, strict=True):
                relay.follow(writer.response_id, "public", -1, sink)
            await wait_until(lambda: all(sink.frames for sink in sinks))
            received = sum(len(sink.frames) for sink in sinks)
            before = await bus_messages(everyone)
            for _ in range(EVENTS):
                for writer in writers:
                    await say(writer, "x")
            events = EVENTS * len(writers)
            await wait_until(lambda: sum(len(sink.frames) for sink in sinks) == received + events)
            sent = await bus_messages(everyone) - before
        # The relay's own probes are messages, too.
        assert events <= sent <= 1.05 * events + 10


@pytest.mark.parametrize("kind", ["server", "worker"])
async def test_a_process_has_two_connections_to_each_master(tmp_path: Path, kind: str) -> None:
    async with cluster() as nodes, FakeModel() as model, System(nodes.url, tmp_path) as system:
        system.environ["HOLDLINE_PARTITIONS"] = "128"
        await (system.server() if kind == "server" else system.worker(model.url))

        async def connections() -> list[int]:
            lists = [await node.call("CLIENT", "LIST") for node in nodes.masters]
            return [len(each.splitlines()) - 1 for each in lists]  # without the test's own

        async def settled() -> bool:
            return [2, 2, 2] == await connections()

        await wait_until(settled)
        most = [0, 0, 0]
        for _ in range(20):
            await asyncio.sleep(0.1)  # a part of the time in which each loop ticks at least once
            most = list(map(max, most, await connections()))
        assert [2, 2, 2] == most


class FleetWorker:
    """Claims jobs in the same way as `worker.Worker`, and answers them without a model."""

    def __init__(self, pipe: Pipe, notifications: Subscriber) -> None:
        self._pipe = pipe
        self._leases = Queue(pipe, SETTINGS).leases
        self._due = WakeUps(self._leases, range(PARTITIONS), FleetSize())
        self._due.subscribe(notifications)
        self.answered = 0
        self.empty = 0  # the number of claims that found no job

    async def run(self) -> None:
        while True:
            partition = await self._due.next()
            most = MAX_CLAIMED_AT_ONCE
            grants = await self._leases.claim(partition, new_claim(), most, worker=self._due.worker)
            self.empty += not grants
            if grants.more:
                self._due.add(partition)
            for grant in grants:
                await self._answer(grant)

    async def _answer(self, grant: Grant) -> None:
        job = decode_job(grant.job)
        writer = LogWriter(self._pipe, job.id, grant.claim, grant.length)
        for _ in range(EVENTS):
            await say(writer, "x")
        await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
        self.answered += 1


def have_answered(fleet: list[FleetWorker], jobs: int) -> bool:
    return sum(worker.answered for worker in fleet) == jobs


async def commands_of_a_fleet(nodes: Nodes) -> tuple[int, int]:
    """Answers 30 jobs for each master, with two workers for each master.

    Returns the number of commands of all masters, and the number of claims that found no job.
    """
    masters = len(nodes.masters)
    jobs = 30 * masters
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        processes = [await enter(connected(nodes.url)) for _ in range(2 * masters)]
        fleet = [FleetWorker(pipe, notifications) for pipe, notifications in processes]
        tasks = [asyncio.create_task(worker.run()) for worker in fleet]
        try:
            # At first, each worker claims from all partitions.
            await wait_until(lambda: all(worker.empty >= PARTITIONS for worker in fleet), 60)
            before = await commands(nodes.masters)
            empty = sum(worker.empty for worker in fleet)
            queue = Queue(processes[0][0], SETTINGS)
            # A burst of jobs would wake several workers, of which the first one takes all jobs.
            for number in range(jobs):
                partition = number % PARTITIONS
                params = {"model": "m", "input": "hi"}
                job = Job(new_response_id(partition), "public", 1, params)
                await queue.submit(job, opening(job), begins=begins(job))
                if number % masters == masters - 1:
                    await wait_until(partial(have_answered, fleet, number + 1))
            spent = await commands(nodes.masters) - before
            empty = sum(worker.empty for worker in fleet) - empty
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return spent, empty


async def test_twice_the_masters_answer_twice_the_jobs_at_the_same_cost_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counts only work that depends on jobs: what is done at intervals is switched off."""
    monkeypatch.setattr(wakeups, "POLL_SECONDS", 1000.0)
    monkeypatch.setattr(node_subscriber, "PROBE_SECONDS", 1000.0)
    monkeypatch.setattr(node_subscriber, "MAX_SILENCE_SECONDS", 1000.0)
    each = []
    for masters in (3, 6):
        async with cluster(masters) as nodes:
            spent, empty = await commands_of_a_fleet(nodes)
            assert 0 == await bus_messages(nodes.masters)
        each.append(spent / masters)
        # A second job of the same partition may be taken together with the first one.
        assert empty <= 0.1 * 30 * masters
    assert each[1] == pytest.approx(each[0], rel=0.1)


# Faults


async def test_followers_receive_events_after_their_slot_has_moved() -> None:
    async with cluster() as nodes, relaying(nodes.url) as (relay, pipe):
        followed = await follow_all(relay, pipe, 10, [0])
        stays = await follow_all(relay, pipe, 1, [1])
        await assert_all_receive(followed, "before")
        source = owner_of(0, nodes)
        target, last = (node for node in nodes.masters if node is not source)
        await nodes.move(in_slot_of(0), source, target)
        await assert_all_receive(followed + stays, "after")
        await nodes.move(in_slot_of(0), target, last)
        await assert_all_receive(followed + stays, "at last")
        assert relay.subscriber.healthy


@pytest.mark.heavy
async def test_fifty_followers_receive_events_after_a_failover() -> None:
    async with cluster(replicas=True) as nodes, relaying(nodes.url) as (relay, pipe):
        followed = await follow_all(relay, pipe, 50)
        await assert_all_receive(followed, "before")
        # Acknowledged events could be lost if the replica did not have them yet.
        for number in range(PARTITIONS):
            assert 1 == await pipe.call("WAIT", 1, 5000, at=Partition(number).queues)
        await owner_of(0, nodes).kill()
        await assert_all_receive(followed, "after")
        await wait_until(lambda: relay.subscriber.healthy)


async def is_replica(node: Store) -> bool:
    return bool([b"slave"] == (await node.call("ROLE"))[:1])


async def test_followers_receive_events_after_a_lost_connection_to_one_master() -> None:
    async with cluster() as nodes, relaying(nodes.url) as (relay, pipe):
        followed = await follow_all(relay, pipe, PARTITIONS)
        for number in range(3):
            await nodes.masters[0].call("CLIENT", "KILL", "TYPE", "pubsub")
            await assert_all_receive(followed, f"{number}")


async def test_followers_receive_events_after_a_master_was_cut_off_from_the_others() -> None:
    """The master still answers its clients, and does not know at once that it was replaced."""
    options = ("--enable-debug-command", "local")
    async with (
        cluster(replicas=True, options=options) as nodes,
        relaying(nodes.url) as (relay, pipe),
    ):
        followed = await follow_all(relay, pipe, PARTITIONS)
        await assert_all_receive(followed, "before")
        lone = owner_of(0, nodes)
        await lone.call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", DROP_ALL)
        replica = nodes.replicas[nodes.masters.index(lone)]

        async def replaced() -> bool:
            return bool([b"master"] == (await replica.call("ROLE"))[:1])

        await wait_until(replaced)
        await assert_all_receive(followed, "cut off")
        await lone.call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", DROP_NOTHING)
        await wait_until(lambda: is_replica(lone))
        await assert_all_receive(followed, "together")
