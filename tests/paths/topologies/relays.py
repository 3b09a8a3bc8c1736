"""A relay on a cluster, and the responses that it follows, without servers and workers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from redis.crc import key_slot

from jobs.ids import new_response_id
from jobs.log.codec import encode_event
from jobs.log.log import LogWriter
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Job
from jobs.redis.pipe import Pipe
from jobs.redis.retry import retry
from jobs.redis.url import redis_from_url
from server.live.relay import Relay
from server.metrics import Metrics
from tests.jobs.factories import SETTINGS, new_claim, opening, text_delta
from tests.paths.redis_faults.store import Store
from tests.paths.topologies.several import Nodes
from tests.server.factories import RecordingSink
from tests.system import wait_until

PARTITIONS = 24
# The time in which a follower must receive events again after a fault: a failover takes about three
# seconds, and DOUBT_SECONDS of the relays is longer.
SECONDS = 20.0
DOUBT_SECONDS = 60.0


@contextlib.asynccontextmanager
async def relaying(url: str) -> AsyncIterator[tuple[Relay, Pipe]]:
    """Runs a relay whose followers read their logs only because of gaps."""
    redis = redis_from_url(url)
    async with redis.pipe() as pipe:
        queue = Queue(pipe, SETTINGS)
        queue.partitions = range(PARTITIONS)
        async with Relay(redis, pipe, queue, Metrics(), doubt_seconds=DOUBT_SECONDS) as relay:
            # The first check for losses makes every follower read its log.
            await wait_until(lambda: relay.healthy and relay._epochs)
            yield relay, pipe


async def begun(pipe: Pipe, partition: int) -> LogWriter:
    """Submits and claims a job, and returns the writer of its log."""
    queue = Queue(pipe, SETTINGS)
    job = Job(new_response_id(partition), "public", 1, {"model": "m", "input": "hi"})
    await queue.submit(job, opening(job))
    [grant] = await queue.leases.claim(partition, new_claim(), 1)
    return LogWriter(pipe, job.id, grant.claim, grant.length)


async def say(writer: LogWriter, text: str) -> None:
    await writer.append([encode_event(text_delta("msg_1", 0, text))])


async def follow_all(
    relay: Relay, pipe: Pipe, count: int, partitions: Iterable[int] = range(PARTITIONS)
) -> list[tuple[LogWriter, RecordingSink]]:
    """Begins `count` responses, and follows each of them until its events arrive live."""
    numbers = list(partitions)
    writers = [await begun(pipe, numbers[index % len(numbers)]) for index in range(count)]
    followed = [(writer, RecordingSink()) for writer in writers]
    followers = [relay.follow(writer.response_id, "public", -1, sink) for writer, sink in followed]
    await wait_until(lambda: all(follower._live for follower in followers))
    return followed


async def assert_all_receive(followed: list[tuple[LogWriter, RecordingSink]], text: str) -> None:
    """Appends a text to each log, and asserts that each follower has the whole log afterwards."""
    async with asyncio.timeout(SECONDS):
        await asyncio.gather(*(say_at_last(writer, text) for writer, _ in followed))
    await wait_until(
        lambda: all(writer.length == len(sink.frames) for writer, sink in followed), SECONDS
    )
    for _, sink in followed:
        assert list(range(len(sink.frames))) == sink.numbers
        assert text == sink.events[-1]["delta"]


async def say_at_last(writer: LogWriter, text: str) -> None:
    """Appends a text, and repeats the append while Redis is away."""
    await retry(lambda: say(writer, text), seconds=SECONDS)


def in_slot_of(partition: int) -> int:
    return key_slot(Partition(partition).queues.encode())


def owner_of(partition: int, nodes: Nodes) -> Store:
    """Returns the master of a partition, provided that no slot has moved."""
    share = 16_384 // len(nodes.masters)
    return nodes.masters[min(in_slot_of(partition) // share, len(nodes.masters) - 1)]
