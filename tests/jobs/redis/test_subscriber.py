"""Tests that a subscriber, which may lose messages, reports each loss as a gap."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator

import pytest

from jobs.redis import node_subscriber
from jobs.redis.connection import Redis
from jobs.redis.node_subscriber import NodeSubscriber
from jobs.redis.pipe import Pipe
from jobs.redis.subscriber import Subscriber
from jobs.redis.wire import Wire
from tests.jobs.factories import NAMES
from tests.jobs.proxy import Proxy
from tests.system import wait_until

CHANNEL = "holdline:{0}:notifications:x"
OTHER = "holdline:{0}:notifications:y"
PROBE = NAMES.probe("test")


class Recorder:
    """Records the messages of one subscription in order; None stands for a gap."""

    def __init__(self, subscriber: Subscriber, channel: str = CHANNEL) -> None:
        self.received: list[bytes | None] = []
        subscriber.subscribe(channel, self.received.append, lambda: self.received.append(None))

    @property
    def gaps(self) -> int:
        return self.received.count(None)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_subscriber, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(node_subscriber, "MAX_SILENCE_SECONDS", 0.4)


def subscriber_of(redis: Redis, pipe: Pipe) -> Subscriber:
    return Subscriber(redis, probes=[PROBE], publish=functools.partial(pipe.call, "SPUBLISH"))


@pytest.fixture
async def subscriber(redis: Redis, pipe: Pipe) -> AsyncIterator[Subscriber]:
    async with subscriber_of(redis, pipe) as subscriber:
        yield subscriber


def node_of(subscriber: Subscriber) -> NodeSubscriber:
    """Returns the subscriptions at the only master."""
    [node] = subscriber._nodes.values()
    return node


async def kill_pubsub(pipe: Pipe) -> None:
    await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")


async def test_a_subscription_starts_with_a_gap_followed_by_messages(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    recorder = Recorder(subscriber)
    await wait_until(lambda: recorder.gaps)

    await pipe.call("SPUBLISH", CHANNEL, b"a\x00\xff")
    await pipe.call("SPUBLISH", CHANNEL, b"b")
    await wait_until(lambda: len(recorder.received) == 3)

    assert [None, b"a\x00\xff", b"b"] == recorder.received


async def test_everything_published_after_the_gap_is_received(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    # Redis has confirmed the subscription when the gap is reported, so no later message is missed.
    for number in range(50):
        channel = f"{CHANNEL}{number}"
        recorder = Recorder(subscriber, channel)
        await wait_until(lambda recorder=recorder: recorder.gaps)  # type: ignore[misc]
        assert 1 == await pipe.call("SPUBLISH", channel, "now")
        await wait_until(lambda recorder=recorder: len(recorder.received) == 2)  # type: ignore[misc]
        subscriber.unsubscribe(channel)


async def test_each_subscription_receives_its_own_channel(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    one, other = Recorder(subscriber), Recorder(subscriber, OTHER)
    await wait_until(lambda: one.gaps and other.gaps)

    await pipe.call("SPUBLISH", OTHER, "other")
    await pipe.call("SPUBLISH", CHANNEL, "one")
    await wait_until(lambda: len(one.received) == 2)

    assert [None, b"one"] == one.received
    assert [None, b"other"] == other.received


async def test_a_lost_connection_is_a_gap_for_every_subscription(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    recorders = [Recorder(subscriber, f"{CHANNEL}{number}") for number in range(20)]
    await wait_until(lambda: all(recorder.gaps == 1 for recorder in recorders))

    await kill_pubsub(pipe)
    await wait_until(lambda: all(recorder.gaps == 2 for recorder in recorders))

    await pipe.call("SPUBLISH", f"{CHANNEL}7", "after")
    await wait_until(lambda: recorders[7].received[-1] == b"after")


async def test_a_subscription_made_without_a_connection_is_confirmed_later(
    subscriber: Subscriber, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Recorder(subscriber)
    await wait_until(lambda: first.gaps)
    may_open, opens = asyncio.Event(), subscriber._redis.open

    async def open_later() -> Wire:
        await may_open.wait()
        return await opens()

    monkeypatch.setattr(subscriber._redis, "open", open_later)
    await kill_pubsub(pipe)
    await wait_until(lambda: not subscriber.healthy)

    late = Recorder(subscriber, OTHER)
    may_open.set()

    await wait_until(lambda: late.gaps and first.gaps == 2)


async def test_a_subscriber_reconnects_after_each_lost_connection(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    recorder = Recorder(subscriber)
    for times in range(1, 10):
        await wait_until(lambda times=times: recorder.gaps >= times)  # type: ignore[misc]
        await kill_pubsub(pipe)
    await wait_until(lambda: recorder.gaps >= 10)

    assert subscriber.healthy


async def test_after_unsubscribing_no_callback_is_called(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    recorder, stays = Recorder(subscriber), Recorder(subscriber, OTHER)
    await wait_until(lambda: recorder.gaps and stays.gaps)
    subscriber.unsubscribe(CHANNEL)
    await pipe.call("SPUBLISH", CHANNEL, "late")
    await kill_pubsub(pipe)
    await wait_until(lambda: stays.gaps == 2)

    assert [None] == recorder.received


async def test_unsubscribing_before_the_confirmation_leaves_nothing_behind(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    await wait_until(lambda: subscriber.healthy)
    for _ in range(20):
        recorder = Recorder(subscriber)
        subscriber.unsubscribe(CHANNEL)
        assert [] == recorder.received
    stays = Recorder(subscriber, OTHER)
    await wait_until(lambda: stays.gaps)

    assert [CHANNEL.encode(), 0] == await pipe.call("PUBSUB", "SHARDNUMSUB", CHANNEL)


async def test_resubscribing_at_once_loses_no_message_unless_a_gap_is_reported(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    await wait_until(lambda: subscriber.healthy)
    for number in range(30):
        Recorder(subscriber)
        if number % 2:
            await asyncio.sleep(0)
        subscriber.unsubscribe(CHANNEL)
        recorder = Recorder(subscriber)
        message = b"%d" % number
        await pipe.call("SPUBLISH", CHANNEL, message)
        # Either the subscriber receives the message, or it reports a gap, after which a reader
        # would find the message in the log.
        await pipe.call("SPUBLISH", PROBE, "x")
        await wait_until(lambda recorder=recorder: recorder.gaps)  # type: ignore[misc]
        assert 1 == await pipe.call("SPUBLISH", CHANNEL, b"after")
        await wait_until(lambda recorder=recorder: b"after" in recorder.received)  # type: ignore[misc]
        subscriber.unsubscribe(CHANNEL)


async def test_a_subscriber_is_healthy_once_its_probes_can_return(redis: Redis, pipe: Pipe) -> None:
    subscriber = subscriber_of(redis, pipe)
    assert not subscriber.healthy
    async with subscriber:
        await wait_until(lambda: subscriber.healthy)
    assert not subscriber.healthy


@pytest.mark.usefixtures("quick")
async def test_an_open_connection_that_delivers_nothing_is_replaced(
    proxy: Proxy, pipe: Pipe
) -> None:
    async with subscriber_of(Redis(proxy.url), pipe) as subscriber:
        recorder = Recorder(subscriber)
        await wait_until(lambda: recorder.gaps == 1 and subscriber.healthy)
        proxy.stop_forwarding()
        await wait_until(lambda: proxy.accepted >= 2)
        assert not subscriber.healthy
        proxy.forward_again()

        await wait_until(lambda: recorder.gaps >= 2 and subscriber.healthy)


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_lost_its_subscriptions_is_replaced(
    subscriber: Subscriber, pipe: Pipe
) -> None:
    recorder = Recorder(subscriber)
    await wait_until(lambda: recorder.gaps == 1 and subscriber.healthy)
    node_of(subscriber)._write("SUNSUBSCRIBE")  # like a failover that the subscriber did not notice

    await wait_until(lambda: recorder.gaps == 2)


@pytest.mark.usefixtures("quick")
async def test_a_connection_without_messages_is_kept(subscriber: Subscriber) -> None:
    recorder = Recorder(subscriber)
    await wait_until(lambda: recorder.gaps == 1)
    wire = node_of(subscriber)._wire
    probes: set[float] = set()

    # Ten probes take more than twice the longest allowed silence.
    def ten_probes() -> bool:
        probes.add(node_of(subscriber)._last_probe)
        return len(probes) > 10

    await wait_until(ten_probes)

    assert wire is node_of(subscriber)._wire
    assert [None] == recorder.received


@pytest.mark.usefixtures("quick")
async def test_a_subscription_refused_by_a_busy_redis_is_repeated(
    quick: None, subscriber: Subscriber, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_subscriber, "MAX_SILENCE_SECONDS", 60)
    await wait_until(lambda: subscriber.healthy)
    await pipe.call("CONFIG", "SET", "busy-reply-threshold", "10")
    loop = "local over = os.clock() + 0.5 while os.clock() < over do end"
    script = asyncio.create_task(pipe.call("EVAL", loop, 0))
    await asyncio.sleep(0.2)  # long enough for the script to exceed the busy threshold
    recorder = Recorder(subscriber)
    try:
        await script
        await wait_until(lambda: recorder.gaps)
        await pipe.call("SPUBLISH", CHANNEL, "x")
        await wait_until(lambda: b"x" in recorder.received)
    finally:
        await pipe.call("CONFIG", "SET", "busy-reply-threshold", "5000")


async def test_an_invalid_message_closes_only_the_connection(proxy: Proxy, pipe: Pipe) -> None:
    async with subscriber_of(Redis(proxy.url), pipe) as subscriber:
        recorder = Recorder(subscriber)
        await wait_until(lambda: recorder.gaps == 1)
        proxy.instead = b"HTTP/1.1 400 Bad Request\r\n\r\n"

        await wait_until(lambda: recorder.gaps == 2)


async def test_a_subscriber_waits_for_a_redis_that_has_not_started(
    proxy: Proxy, pipe: Pipe
) -> None:
    proxy.refuse = 3
    async with subscriber_of(Redis(proxy.url), pipe) as subscriber:
        recorder = Recorder(subscriber)
        await wait_until(lambda: recorder.gaps == 1)
    assert 4 == proxy.accepted


@pytest.mark.parametrize("turns", range(8))
async def test_a_subscriber_can_be_closed_at_any_step_of_losing_its_connection(
    redis: Redis, pipe: Pipe, turns: int
) -> None:
    began = time.monotonic()
    async with asyncio.timeout(3), subscriber_of(redis, pipe) as subscriber:
        await wait_until(lambda: subscriber.healthy)
        wire = node_of(subscriber)._wire
        assert wire is not None
        wire.close()
        for _ in range(turns):
            await asyncio.sleep(0)

    assert time.monotonic() - began < 2
