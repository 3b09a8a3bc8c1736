"""Tests webhook delivery to a real receiver with a real Redis, including faults."""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver
from openai import OpenAI

from jobs.deliveries import Deliveries, Kind
from jobs.errors import RedisAway
from jobs.feedback import Feedback
from jobs.feedback_store import FeedbackStore
from jobs.log.log import LogWriter
from jobs.names import Partition
from jobs.queue import Queue
from jobs.record import Job, SharedSettings, Status
from jobs.redis.pipe import Pipe
from tests.jobs.factories import a_job, end_entry, ending, opening
from tests.system import wait_until
from worker.fleet_share import FleetSize
from worker.metrics import WorkerMetrics
from worker.webhooks.client import WebhookClient
from worker.webhooks.dispatcher import Dispatcher
from worker.webhooks.message import Receiver, event_id, read_secrets
from worker.webhooks.sender import WebhookSender, end_message, feedback_message

SECRET = "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0"
NAMES = Partition(0)
SETTINGS = SharedSettings(webhooks=True)
QUICK = (0.0,) * 5


class Inbox:
    """A webhook receiver that replies with the statuses in `answers` and then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.events: list[Any] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.url = ""
        self.wrong: list[str] = []
        self.redirected = 0

    async def post(self, request: web.Request) -> web.Response:
        payload = await request.read()
        try:
            event = OpenAI(api_key="any").webhooks.unwrap(payload, request.headers, secret=SECRET)
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to show it
            self.wrong.append(repr(error))
            return web.Response(status=400)
        self.events.append(event)
        await self.hold.wait()
        status = self.answers.pop(0) if self.answers else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async def elsewhere(self, request: web.Request) -> web.Response:
        del request
        self.redirected += 1
        return web.Response(status=404)

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(event.type, event.data.id) for event in self.events]


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox()
    app = web.Application()
    app.router.add_post("/hook", inbox.post)
    app.router.add_route("*", "/elsewhere", inbox.elsewhere)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    inbox.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield inbox
    inbox.hold.set()
    await runner.cleanup()
    assert [] == inbox.wrong


def dispatcher_to(pipe: Pipe, client: WebhookClient, url: str, **more: Any) -> Dispatcher:
    receiver = Receiver(url, read_secrets(SECRET), allow_private=True)
    sender = WebhookSender(client, receiver, end_message, WorkerMetrics().webhooks, schedule=QUICK)
    return Dispatcher(Deliveries(pipe), sender, range(1), FleetSize(), **more)


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    async with WebhookClient(allow_private=True) as client:
        yield client


async def ended(
    pipe: Pipe, status: Status = Status.COMPLETED, settings: SharedSettings = SETTINGS
) -> Job:
    """Returns a job that a worker has finished, or that was cancelled while it waited."""
    job, queue = a_job(secrets.token_hex(4)), Queue(pipe, settings)
    await queue.submit(job, opening(job))
    if status is Status.CANCELLED:
        await queue.cancel(job.id, 2, [ending(job, status)])
        return job
    (grant,) = await queue.leases.claim(0, secrets.token_hex(4), 1)
    writer = LogWriter(pipe, job.id, grant.claim, grant.length)
    await writer.finish(status, [end_entry(job)], retention_ms=60_000)
    return job


async def count(pipe: Pipe, what: str) -> int:
    return int(await pipe.call("HGET", NAMES.numbers, f"~{what}") or 0)


async def settled(pipe: Pipe) -> None:
    """Returns when no webhook is waiting for delivery."""

    async def none_waits() -> bool:
        return not await pipe.call("ZCARD", NAMES.hooks)

    await wait_until(none_waits)


@pytest.mark.parametrize("connected", [True, False])
async def test_an_unavailable_partition_delays_no_webhook_of_another(
    pipe: Pipe,
    client: WebhookClient,
    inbox: Inbox,
    monkeypatch: pytest.MonkeyPatch,
    connected: bool,
) -> None:
    claim = Deliveries.claim

    async def claimed(self: Deliveries, partition: int, *more: Any) -> Any:
        if partition == 1:
            assert connected
            raise RedisAway("away")
        return await claim(self, 0, *more)

    monkeypatch.setattr(Deliveries, "claim", claimed)
    monkeypatch.setattr(Deliveries, "is_reachable", lambda _, number: connected or number != 1)
    job = await ended(pipe)
    receiver = Receiver(inbox.url, read_secrets(SECRET), allow_private=True)
    sender = WebhookSender(client, receiver, end_message, WorkerMetrics().webhooks)
    # The unavailable partition is the first one.
    async with Dispatcher(Deliveries(pipe), sender, range(1, 3), FleetSize()):
        await settled(pipe)
    assert [("response.completed", job.id)] == inbox.told


async def test_each_ended_response_sends_one_webhook_that_the_sdk_parses(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    ends = [Status.COMPLETED, Status.FAILED, Status.INCOMPLETE, Status.CANCELLED]
    jobs = [await ended(pipe, status) for status in ends]
    async with dispatcher_to(pipe, client, inbox.url), dispatcher_to(pipe, client, inbox.url):
        await settled(pipe)
    expected = [(f"response.{end}", job.id) for end, job in zip(ends, jobs, strict=True)]
    assert sorted(expected) == sorted(inbox.told)
    assert 4 == await count(pipe, "sent")


async def test_no_webhook_is_sent_unless_requested(pipe: Pipe) -> None:
    await ended(pipe, settings=SharedSettings())
    assert 0 == await pipe.call("ZCARD", NAMES.hooks)


async def test_a_repeated_finish_sends_one_webhook(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    job, queue = a_job(), Queue(pipe, SETTINGS)
    await queue.submit(job, opening(job))
    (grant,) = await queue.leases.claim(0, "t", 1)
    for _ in range(2):
        writer = LogWriter(pipe, job.id, grant.claim, grant.length)
        await writer.finish(Status.COMPLETED, [end_entry(job)], retention_ms=60_000)
        async with dispatcher_to(pipe, client, inbox.url):
            await settled(pipe)
    assert 1 == len(inbox.told)


async def test_a_refused_delivery_is_retried_under_the_same_id_and_redirects_are_not_followed(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    await ended(pipe)
    inbox.answers = [500, 307, 302, 404]
    async with dispatcher_to(pipe, client, inbox.url):
        await settled(pipe)
    assert (5, 0) == (len(inbox.told), inbox.redirected)
    assert 1 == len({event.id for event in inbox.events})


@pytest.mark.parametrize(("answers", "calls"), [([410], 1), ([500] * 9, len(QUICK) + 1)])
async def test_a_delivery_that_is_refused_finally_or_too_often_is_dropped_and_counted(
    pipe: Pipe, client: WebhookClient, inbox: Inbox, answers: list[int], calls: int
) -> None:
    await ended(pipe)
    inbox.answers = answers
    async with dispatcher_to(pipe, client, inbox.url):
        await settled(pipe)
    assert (calls, 1, 0) == (
        len(inbox.told),
        await count(pipe, "dead"),
        await count(pipe, "sent"),
    )


async def test_a_delivery_is_repeated_if_its_dispatcher_dies_before_confirming(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    await ended(pipe)
    inbox.hold.clear()
    doomed = dispatcher_to(pipe, client, inbox.url, lease_ms=500)
    async with doomed:
        await wait_until(lambda: inbox.told)
        for task in doomed._sending:
            task.cancel()
    inbox.hold.set()
    async with dispatcher_to(pipe, client, inbox.url):
        await settled(pipe)
    assert 2 == len(inbox.told)
    assert 1 == len({event.id for event in inbox.events})


async def test_two_dispatchers_never_claim_the_same_webhook(pipe: Pipe) -> None:
    for _ in range(30):
        await ended(pipe)
    hooks = Deliveries(pipe)
    claims = await asyncio.gather(*(hooks.claim(0, f"t{n}", 7, 60_000) for n in range(10)))
    held = [hook for claim in claims for hook in claim]
    assert (30, 30) == (len(held), len({hook.id for hook in held}))
    assert not await hooks.settle(held[0], "t9")
    assert await hooks.settle(held[0], "t0")


async def test_a_dispatcher_suspended_past_its_lease_confirms_nothing(pipe: Pipe) -> None:
    job, hooks = await ended(pipe), Deliveries(pipe)
    assert 1 == len(await hooks.claim(0, "paused", 1, 1))
    deadline = time.monotonic() + 10
    while not (taken := await hooks.claim(0, secrets.token_hex(4), 1, 60_000)):
        assert time.monotonic() < deadline
    assert 2 == taken[0].tries
    assert [job.id] == [hook.id for hook in taken]
    assert not await hooks.settle(taken[0], "paused")


async def test_no_webhook_is_sent_for_a_response_that_a_client_received_in_time(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    delayed = replace(SETTINGS, hook_wait_ms=700)
    seen, unseen = await ended(pipe, settings=delayed), await ended(pipe, settings=delayed)
    assert await Queue(pipe, delayed).seen(seen.id, 1000)
    async with dispatcher_to(pipe, client, inbox.url):
        await settled(pipe)
    assert [("response.completed", unseen.id)] == inbox.told
    assert 1 == await count(pipe, "seen")


async def test_without_a_delay_the_webhook_is_sent_even_if_a_client_received_the_response(
    pipe: Pipe,
) -> None:
    job = await ended(pipe)
    assert await Queue(pipe, SETTINGS).seen(job.id, 1000)
    assert 1 == await pipe.call("ZCARD", NAMES.hooks)


# Feedback


async def test_a_change_of_feedback_while_its_webhook_is_sent_is_reported_last(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    job, store = await ended(pipe, settings=SharedSettings()), FeedbackStore(pipe, webhooks=True)
    receiver = Receiver(inbox.url, read_secrets(SECRET), allow_private=True)
    sender = WebhookSender(
        client,
        receiver,
        lambda delivery: feedback_message(delivery, pipe.cipher),
        WorkerMetrics().webhooks,
        schedule=QUICK,
    )
    deliveries = Deliveries(pipe, Kind.FEEDBACK)
    inbox.hold.clear()
    await store.put(job.id, Feedback("up"))
    async with (
        Dispatcher(deliveries, sender, range(1), FleetSize()),
        Dispatcher(deliveries, sender, range(1), FleetSize()),
    ):
        await wait_until(lambda: inbox.events)
        await store.put(job.id, Feedback("up", "no"))
        await store.put(job.id, Feedback("down", "Zu „kurz“ 😀"))
        inbox.answers = [200, 500]
        inbox.hold.set()
        await wait_until(lambda: len(inbox.events) == 3)

        async def none_waits() -> bool:
            return not await pipe.call("ZCARD", NAMES.feedbacks)

        await wait_until(none_waits)
    found = [(event.id, event.data.rating, event.data.comment) for event in inbox.events]
    one, three = (f"{event_id(job.id)}_{number}" for number in (1, 3))
    last = (three, "down", "Zu „kurz“ 😀")
    assert [(one, "up", ""), last, last] == found
    assert {("holdline.feedback", job.id)} == set(inbox.told)
    assert not await pipe.call("EXISTS", NAMES.feedback(job.id))


async def test_feedback_that_cannot_be_decrypted_is_retried_and_then_abandoned(
    pipe: Pipe, client: WebhookClient, inbox: Inbox
) -> None:
    job = await ended(pipe, settings=SharedSettings())
    await FeedbackStore(pipe, webhooks=True).put(job.id, Feedback("up"))
    await pipe.call("HSET", NAMES.feedback(job.id), "message", b"\xc1" + bytes(60))
    receiver = Receiver(inbox.url, read_secrets(SECRET), allow_private=True)
    sender = WebhookSender(
        client,
        receiver,
        lambda delivery: feedback_message(delivery, pipe.cipher),
        WorkerMetrics().webhooks,
        schedule=QUICK[:2],
    )
    async with Dispatcher(Deliveries(pipe, Kind.FEEDBACK), sender, range(1), FleetSize()):

        async def abandoned() -> bool:
            return await count(pipe, "dead") == 1

        await wait_until(abandoned)
    assert [] == inbox.events


# Addresses that webhooks may not use


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0"])
async def test_a_private_address_is_refused_before_connecting(inbox: Inbox, host: str) -> None:
    async with WebhookClient(allow_private=False) as client:
        result = await client.send(inbox.url.replace("127.0.0.1", host), b"{}", {})
    assert result.status is None
    assert [] == inbox.told


async def test_a_name_that_resolves_to_a_private_address_later_is_refused(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    async def resolve(
        self: object, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        looks.append(host)
        address = "127.0.0.1" if len(looks) > 1 else "192.0.2.1"
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
        ]

    monkeypatch.setattr(ThreadedResolver, "resolve", resolve)
    async with WebhookClient(allow_private=False) as client:
        for _ in range(2):
            result = await client.send(inbox.url.replace("127.0.0.1", "rebound.test"), b"{}", {})
            assert "the receiver's address is not public" == result.reason
    assert 2 == len(looks)
    assert [] == inbox.told


async def test_a_delivery_to_a_silent_receiver_times_out() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            pass
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, WebhookClient(allow_private=True, total=0.2) as client:
        port = server.sockets[0].getsockname()[1]
        result = await client.send(f"http://127.0.0.1:{port}/", b"{}", {})
    assert result.status is None
    assert "Timeout" in result.reason
