"""The bell: it may lose messages, and must say so."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator

import pytest

from jobs.redis import subscriber as subscriber_module
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.redis.subscriber import Subscriber
from jobs.redis.wire import Wire
from tests.jobs.factories import NAMES
from tests.jobs.proxy import Proxy
from tests.system import wait_until

CHANNEL = "holdline:{0}:bell:x"
OTHER = "holdline:{0}:bell:y"
PROBE = NAMES.probe("test")


class Ear:
    """What one listener was told, in order; a gap is None."""

    def __init__(self, bell: Subscriber, channel: str = CHANNEL) -> None:
        self.told: list[bytes | None] = []
        bell.subscribe(channel, self.told.append, lambda: self.told.append(None))

    @property
    def gaps(self) -> int:
        return self.told.count(None)


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[Proxy]:
    async with Proxy(redis_url) as proxy:
        yield proxy


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "PROBE_SECONDS", 0.1)
    monkeypatch.setattr(subscriber_module, "MAX_SILENCE_SECONDS", 0.4)


def bell_of(redis: Redis, pipe: Pipe) -> Subscriber:
    return Subscriber(redis, probe=PROBE, publish=functools.partial(pipe.call, "PUBLISH"))


@pytest.fixture
async def bell(redis: Redis, pipe: Pipe) -> AsyncIterator[Subscriber]:
    async with bell_of(redis, pipe) as bell:
        yield bell


async def kill_pubsub(pipe: Pipe) -> None:
    await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")


async def test_a_gap_comes_first_and_then_what_is_published(bell: Subscriber, pipe: Pipe) -> None:
    ear = Ear(bell)
    await wait_until(lambda: ear.gaps)

    await pipe.call("PUBLISH", CHANNEL, b"a\x00\xff")
    await pipe.call("PUBLISH", CHANNEL, b"b")
    await wait_until(lambda: len(ear.told) == 3)

    assert [None, b"a\x00\xff", b"b"] == ear.told


async def test_whatever_is_published_after_the_gap_is_heard(bell: Subscriber, pipe: Pipe) -> None:
    # Redis has confirmed by then: nothing is certain before, and everything after.
    for number in range(50):
        channel = f"{CHANNEL}{number}"
        ear = Ear(bell, channel)
        await wait_until(lambda ear=ear: ear.gaps)  # type: ignore[misc]
        assert 1 == await pipe.call("PUBLISH", channel, "now")
        await wait_until(lambda ear=ear: len(ear.told) == 2)  # type: ignore[misc]
        bell.unsubscribe(channel)


async def test_each_channel_has_its_own_listener(bell: Subscriber, pipe: Pipe) -> None:
    one, other = Ear(bell), Ear(bell, OTHER)
    await wait_until(lambda: one.gaps and other.gaps)

    await pipe.call("PUBLISH", OTHER, "other")
    await pipe.call("PUBLISH", CHANNEL, "one")
    await wait_until(lambda: len(one.told) == 2)

    assert [None, b"one"] == one.told
    assert [None, b"other"] == other.told


async def test_after_a_lost_connection_every_listener_is_told_of_a_gap(
    bell: Subscriber, pipe: Pipe
) -> None:
    ears = [Ear(bell, f"{CHANNEL}{number}") for number in range(20)]
    await wait_until(lambda: all(ear.gaps == 1 for ear in ears))

    await kill_pubsub(pipe)
    await wait_until(lambda: all(ear.gaps == 2 for ear in ears))

    await pipe.call("PUBLISH", f"{CHANNEL}7", "after")
    await wait_until(lambda: ears[7].told[-1] == b"after")


async def test_a_listener_that_came_while_there_was_no_connection_is_told_as_well(
    bell: Subscriber, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Ear(bell)
    await wait_until(lambda: first.gaps)
    may_open, opens = asyncio.Event(), bell._redis.open

    async def open_later() -> Wire:
        await may_open.wait()
        return await opens()

    monkeypatch.setattr(bell._redis, "open", open_later)
    await kill_pubsub(pipe)
    await wait_until(lambda: not bell.healthy)

    late = Ear(bell, OTHER)
    may_open.set()

    await wait_until(lambda: late.gaps and first.gaps == 2)


async def test_a_bell_that_is_killed_again_and_again_keeps_coming_back(
    bell: Subscriber, pipe: Pipe
) -> None:
    ear = Ear(bell)
    for times in range(1, 10):
        await wait_until(lambda times=times: ear.gaps >= times)  # type: ignore[misc]
        await kill_pubsub(pipe)
    await wait_until(lambda: ear.gaps >= 10)

    assert bell.healthy


async def test_nobody_is_told_anything_after_leaving(bell: Subscriber, pipe: Pipe) -> None:
    ear, stays = Ear(bell), Ear(bell, OTHER)
    await wait_until(lambda: ear.gaps and stays.gaps)
    bell.unsubscribe(CHANNEL)
    await pipe.call("PUBLISH", CHANNEL, "late")
    await kill_pubsub(pipe)
    await wait_until(lambda: stays.gaps == 2)

    assert [None] == ear.told


async def test_leaving_before_redis_has_confirmed_leaves_nothing_behind(
    bell: Subscriber, pipe: Pipe
) -> None:
    await wait_until(lambda: bell.healthy)
    for _ in range(20):
        ear = Ear(bell)
        bell.unsubscribe(CHANNEL)
        assert [] == ear.told
    stays = Ear(bell, OTHER)
    await wait_until(lambda: stays.gaps)

    assert [CHANNEL.encode(), 0] == await pipe.call("PUBSUB", "NUMSUB", CHANNEL)


async def test_whoever_leaves_and_listens_again_at_once_misses_nothing_unknowingly(
    bell: Subscriber, pipe: Pipe
) -> None:
    await wait_until(lambda: bell.healthy)
    for number in range(30):
        Ear(bell)
        if number % 2:
            await asyncio.sleep(0)
        bell.unsubscribe(CHANNEL)
        ear = Ear(bell)
        said = b"%d" % number
        await pipe.call("PUBLISH", CHANNEL, said)
        # Either it was heard, or a gap came after it: then a read would find it.
        await pipe.call("PUBLISH", PROBE, "x")
        await wait_until(lambda ear=ear: ear.gaps)  # type: ignore[misc]
        heard = 1 == await pipe.call("PUBLISH", CHANNEL, b"after")
        await wait_until(lambda ear=ear, heard=heard: not heard or b"after" in ear.told)  # type: ignore[misc]
        assert heard
        bell.unsubscribe(CHANNEL)


async def test_a_bell_hears_once_its_own_voice_can_come_back(redis: Redis, pipe: Pipe) -> None:
    bell = bell_of(redis, pipe)
    assert not bell.healthy
    async with bell:
        await wait_until(lambda: bell.healthy)
    assert not bell.healthy


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_is_deaf_while_it_looks_alive_is_replaced(
    proxy: Proxy, pipe: Pipe
) -> None:
    async with bell_of(Redis(proxy.url), pipe) as bell:
        ear = Ear(bell)
        await wait_until(lambda: ear.gaps == 1 and bell.healthy)
        proxy.stop_forwarding()
        await wait_until(lambda: proxy.accepted >= 2)
        assert not bell.healthy
        proxy.forward_again()

        await wait_until(lambda: ear.gaps >= 2 and bell.healthy)


@pytest.mark.usefixtures("quick")
async def test_a_connection_that_lost_its_subscriptions_is_replaced(
    bell: Subscriber, pipe: Pipe
) -> None:
    ear = Ear(bell)
    await wait_until(lambda: ear.gaps == 1 and bell.healthy)
    bell._write("UNSUBSCRIBE")  # as after a failover that nobody told us of

    await wait_until(lambda: ear.gaps == 2)


@pytest.mark.usefixtures("quick")
async def test_a_bell_that_is_only_quiet_is_left_alone(bell: Subscriber, pipe: Pipe) -> None:
    ear = Ear(bell)
    await wait_until(lambda: ear.gaps == 1)
    first = await pipe.call("CLIENT", "LIST", "TYPE", "pubsub")
    until = time.monotonic() + 1
    await wait_until(lambda: time.monotonic() > until)

    assert first.split()[0] == (await pipe.call("CLIENT", "LIST", "TYPE", "pubsub")).split()[0]
    assert [None] == ear.told


@pytest.mark.usefixtures("quick")
async def test_bytes_that_are_no_message_cost_the_connection_and_no_more(
    proxy: Proxy, pipe: Pipe
) -> None:
    async with bell_of(Redis(proxy.url), pipe) as bell:
        ear = Ear(bell)
        await wait_until(lambda: ear.gaps == 1)
        proxy.instead = b"HTTP/1.1 400 Bad Request\r\n\r\n"

        await wait_until(lambda: ear.gaps == 2)


async def test_a_redis_that_is_not_there_yet_is_waited_for(proxy: Proxy, pipe: Pipe) -> None:
    proxy.refuse = 3
    async with bell_of(Redis(proxy.url), pipe) as bell:
        ear = Ear(bell)
        await wait_until(lambda: ear.gaps == 1)
    assert 4 == proxy.accepted


@pytest.mark.parametrize("turns", range(8))
async def test_a_bell_can_be_left_at_any_turn_of_losing_its_connection(
    redis: Redis, pipe: Pipe, turns: int
) -> None:
    began = time.monotonic()
    async with asyncio.timeout(3), bell_of(redis, pipe) as bell:
        await wait_until(lambda: bell.healthy)
        assert bell._wire is not None
        bell._wire.close()
        for _ in range(turns):
            await asyncio.sleep(0)

    assert time.monotonic() - began < 2
