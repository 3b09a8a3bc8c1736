"""Tests pushes to a simulated push service with a real Redis, including faults."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from jobs.deliveries import Deliveries, Kind
from jobs.errors import SubscriptionsFull
from jobs.log.log import LogWriter
from jobs.names import Partition
from jobs.push_subscriptions import (
    MAX_SUBSCRIPTIONS,
    MAX_TTL_MS,
    PushSubscriptions,
    Subscription,
    subscription_id,
)
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.redis.pipe import Pipe
from jobs.vapid import VapidKey, decode, new_vapid_key
from tests.jobs.factories import a_job, end_entry, opening
from tests.push_service import CONTACT, Browser, PushService, push_service
from tests.system import wait_until
from worker.fleet_share import FleetSize
from worker.metrics import WorkerMetrics
from worker.push.config import PushConfig
from worker.push.sender import PushSender
from worker.webhooks.client import WebhookClient
from worker.webhooks.dispatcher import Dispatcher

NAMES = Partition(0)
SETTINGS = SharedSettings(push=True, push_wait_ms=0)
WHO = "acme/anna"
KEY = new_vapid_key()
QUICK = (0.0,) * 4


@pytest.fixture
async def service() -> AsyncIterator[PushService]:
    async with push_service() as service:
        yield service


def config(key: VapidKey = KEY, ttl: float = 3600.0, *, private: bool = True) -> PushConfig:
    return PushConfig({key.public: key}, CONTACT, ttl_seconds=ttl, allow_private=private)


def dispatcher(
    pipe: Pipe, client: WebhookClient, settings: PushConfig | None = None, lease_ms: int = 60_000
) -> Dispatcher:
    subscriptions = PushSubscriptions(pipe, range(1))
    sender = PushSender(
        pipe, subscriptions, settings or config(), client, WorkerMetrics().pushes, schedule=QUICK
    )
    deliveries = Deliveries(pipe, Kind.PUSH)
    return Dispatcher(deliveries, sender, range(1), FleetSize(), lease_ms=lease_ms)


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    async with WebhookClient(allow_private=True) as client:
        yield client


async def subscribed(pipe: Pipe, service: PushService, owner: str = WHO) -> Browser:
    browser = Browser(service, KEY.public)
    keys = browser.json["keys"]
    subscription = Subscription(
        1, 0, browser.endpoint, decode(keys["p256dh"]), decode(keys["auth"]), KEY.public
    )
    await PushSubscriptions(pipe, range(1)).put(owner, subscription, MAX_TTL_MS)
    return browser


async def ended(
    pipe: Pipe,
    status: Status = Status.COMPLETED,
    owner: str = WHO,
    settings: SharedSettings = SETTINGS,
) -> Job:
    """Returns a job that a worker has finished."""
    job, queue = a_job(owner), Queue(pipe, settings)
    await queue.submit(job, opening(job))
    (grant,) = await queue.leases.claim(0, secrets.token_hex(4), 1)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await writer.finish(status, [end_entry(job)], retention_ms=60_000)
    return job


async def count(pipe: Pipe, what: str) -> int:
    return int(await pipe.call("HGET", NAMES.numbers, f"~push_{what}") or 0)


async def settled(pipe: Pipe) -> None:
    """Returns when no push is waiting."""

    async def none_waits() -> bool:
        return not await pipe.call("ZCARD", NAMES.pushes)

    await wait_until(none_waits)


async def test_two_dispatchers_send_one_push_to_each_subscription(
    pipe: Pipe, client: WebhookClient, service: PushService
) -> None:
    browsers = [await subscribed(pipe, service) for _ in range(3)]
    jobs = [await ended(pipe) for _ in range(10)]
    async with dispatcher(pipe, client), dispatcher(pipe, client):
        await settled(pipe)
    for browser in browsers:
        assert {job.id for job in jobs} == {message["id"] for message in browser.messages}
    assert 30 == service.requests == await count(pipe, "sent")


async def test_only_end_users_are_told_and_only_of_answers_that_they_did_not_cancel(
    pipe: Pipe, client: WebhookClient, service: PushService
) -> None:
    browser = await subscribed(pipe, service)
    for owner in ("public", "acme/"):
        await subscribed(pipe, service, owner)
        await ended(pipe, owner=owner)
    await ended(pipe, Status.CANCELLED)
    failed = await ended(pipe, Status.FAILED)
    async with dispatcher(pipe, client):
        await settled(pipe)
    assert [{"id": failed.id, "status": "failed"}] == browser.messages
    assert 1 == service.requests


async def test_a_push_of_a_dead_worker_is_sent_again_with_the_same_topic(
    pipe: Pipe, client: WebhookClient, service: PushService, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = await subscribed(pipe, service)
    await ended(pipe)
    died = asyncio.Event()
    settle = Deliveries.settle

    async def never(*_: object, **__: object) -> bool:
        died.set()
        await asyncio.Event().wait()
        return False

    monkeypatch.setattr(Deliveries, "settle", never)
    async with dispatcher(pipe, client, lease_ms=500):
        await asyncio.wait_for(died.wait(), 20)
        monkeypatch.setattr(Deliveries, "settle", settle)
        async with dispatcher(pipe, client):
            await settled(pipe)
    assert 2 == len(browser.messages)
    assert 1 == len(set(browser.topics))


async def test_a_response_that_was_seen_or_deleted_meanwhile_is_not_announced(
    pipe: Pipe, client: WebhookClient, service: PushService
) -> None:
    await subscribed(pipe, service)
    waiting = replace(SETTINGS, push_wait_ms=60_000)
    seen, deleted = await ended(pipe, settings=waiting), await ended(pipe, settings=waiting)
    queue = Queue(pipe, waiting)
    await queue.seen(seen.id, 60_000)
    await queue.delete(deleted.id)
    assert 0 == await pipe.call("ZCARD", NAMES.pushes)

    # The pushes to the subscriptions are dropped too, while they wait for another attempt.
    deliveries = Deliveries(pipe, Kind.PUSH)
    for end in (queue.delete, lambda id_: queue.seen(id_, 60_000)):
        job = await ended(pipe)
        [whole] = await deliveries.claim(0, secrets.token_hex(4), 5, 60_000)
        claim = (await pipe.call("HGET", NAMES.push(job.id), "claim")).decode()
        assert await deliveries.spread(whole, claim, ["push_a", "push_b"])
        assert 2 == await pipe.call("ZCARD", NAMES.pushes)
        await end(job.id)
        assert 0 == await pipe.call("ZCARD", NAMES.pushes)
        assert not await pipe.call("KEYS", NAMES.push("*"))
    assert 2 == await count(pipe, "seen")


@pytest.mark.parametrize("status", [404, 410])
async def test_a_subscription_that_is_gone_is_removed_and_not_tried_again(
    pipe: Pipe, client: WebhookClient, service: PushService, status: int
) -> None:
    await subscribed(pipe, service)
    service.answers.append((status, {}))
    await ended(pipe)
    await ended(pipe)
    async with dispatcher(pipe, client):
        await settled(pipe)
    assert {} == await PushSubscriptions(pipe, range(1)).all(WHO)
    assert 1 <= service.requests <= 2  # both may have been sent at once


@pytest.mark.parametrize(("status", "requests"), [(503, 5), (429, 5), (403, 1), (413, 1)])
async def test_temporary_failures_are_tried_again_and_others_are_not(
    pipe: Pipe, client: WebhookClient, service: PushService, status: int, requests: int
) -> None:
    browser = await subscribed(pipe, service)
    service.answers += [(status, {})] * 5
    await ended(pipe)
    async with dispatcher(pipe, client):
        await settled(pipe)
    assert ([], requests) == (browser.messages, service.requests)
    assert 1 == await count(pipe, "dead")
    assert 1 == len(await PushSubscriptions(pipe, range(1)).all(WHO))


async def test_a_push_that_is_too_old_is_not_sent(
    pipe: Pipe, client: WebhookClient, service: PushService
) -> None:
    await subscribed(pipe, service)
    await ended(pipe)
    await asyncio.sleep(0.01)  # longer than the push may take
    async with dispatcher(pipe, client, config(ttl=0.001)):
        await settled(pipe)
    assert 0 == service.requests


async def test_a_private_address_is_refused_when_the_worker_connects(
    pipe: Pipe, service: PushService
) -> None:
    await subscribed(pipe, service)
    await ended(pipe)
    async with (
        WebhookClient(allow_private=False) as client,
        dispatcher(pipe, client, config(private=False)),
    ):
        await settled(pipe)
    assert 0 == service.requests
    assert 1 == await count(pipe, "dead")


async def test_a_push_waits_while_the_key_of_its_subscription_is_missing(
    pipe: Pipe, client: WebhookClient, service: PushService
) -> None:
    await subscribed(pipe, service)
    await ended(pipe)
    async with dispatcher(pipe, client, config(new_vapid_key())):
        await settled(pipe)
    assert 0 == service.requests
    assert 1 == len(await PushSubscriptions(pipe, range(1)).all(WHO))


async def test_a_sent_push_renews_its_subscription_but_not_beyond_its_expiry(
    pipe: Pipe, client: WebhookClient, service: PushService
) -> None:
    browser = await subscribed(pipe, service)
    subscription = Subscription(1, endpoint=browser.endpoint)
    key = NAMES.subscription(subscription_id(range(1), subscription))
    await pipe.call("PEXPIRE", key, 60_000)
    await ended(pipe)
    async with dispatcher(pipe, client):
        await settled(pipe)
    assert MAX_TTL_MS - 60_000 < await pipe.call("PTTL", key) <= MAX_TTL_MS


async def test_an_owner_has_a_limited_number_of_subscriptions_and_expired_ones_do_not_count(
    pipe: Pipe,
) -> None:
    store = PushSubscriptions(pipe, range(1))

    def made(number: int) -> Subscription:
        return Subscription(1, device=f"d{number}")

    short = await store.put(WHO, made(0), 400)
    for number in range(1, MAX_SUBSCRIPTIONS):
        await store.put(WHO, made(number), 60_000)
    with pytest.raises(SubscriptionsFull):
        await store.put(WHO, made(MAX_SUBSCRIPTIONS), 60_000)
    assert subscription_id(range(1), made(1)) == await store.put(WHO, made(1), 60_000)
    assert 20 == len(await store.all(WHO))

    async def expired() -> bool:
        return await store.get(WHO, short) is None

    await wait_until(expired)
    await store.put(WHO, made(MAX_SUBSCRIPTIONS), 60_000)
    assert 20 == len(await store.all(WHO))
    assert 20 == await store.remove_all(WHO)
    assert [] == await pipe.call("KEYS", "*subscription*")
