"""Who submits has heard how the log begins, and need not read it; any doubt is left to the log."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from jobs.cipher import Cipher
from jobs.log.codec import encode_event
from jobs.log.events import submitted
from jobs.log.log import MAX_NOTIFICATION_BYTES
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.replies import Accepted
from server.api.frames import Frame, frame
from server.app import SERVER, Server
from server.live import submission as submission_module
from server.live.feed import Feed
from server.live.relay import Relay
from server.live.submission import EVENT_BYTES, MAX_BYTES, SubmissionListener
from server.metrics import Metrics
from tests.error_codes import own_code
from tests.jobs.factories import NAMES, SETTINGS, a_job, text_delta
from tests.server.conftest import Client, Serve
from tests.server.factories import DELTAS, RESPONSE, RecordingSink, Worker
from tests.server.talk import at_rest, connected
from tests.system import wait_until

Meanwhile = Callable[[Pipe, Worker], Awaitable[object]]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission_module, "NOTIFICATION_TURNS", 1000)  # the machine may be busy


def reads(server: Server) -> float:
    return server.metrics.registry.get_sample_value("holdline_log_reads_total") or 0


async def no_subscription(server: Server) -> bool:
    """True if Redis knows of no subscription but the probe's."""
    return not await server.pipe.call("PUBSUB", "CHANNELS", "holdline:*notifications*")


def nothing_subscribed(response_id: str) -> Feed:
    raise AssertionError(response_id)


def frames(first: int, count: int) -> list[Frame]:
    return [frame(first + index, DELTAS[first + index]) for index in range(count)]


# No read.


def subscribe_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis has each subscription before the submission, as it mostly has: both leave together."""
    submit = server.queue.submit

    async def submit_after(*given: Any, **more: Any) -> Accepted:
        await wait_until(lambda: all(feed.confirmed for feed in server.relay._feeds.values()))
        return await submit(*given, **more)

    monkeypatch.setattr(server.queue, "submit", submit_after)


async def over_websocket(client: Client, worker: Worker) -> str:
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?")
        await worker.answer("Because", ".")
        await talk.until("response.completed")
        logged = talk.logged()
        assert list(range(len(logged))) == [event["sequence_number"] for event in logged]
        return "".join(event.get("delta", "") for event in logged)


async def posted(client: Client, worker: Worker, path: str, body: dict[str, Any]) -> str:
    asking = asyncio.create_task(client.post(path, json=body))
    await worker.answer("Because", ".")
    async with await asking as answer:
        return await answer.text()


async def as_events(client: Client, worker: Worker) -> str:
    text = await posted(client, worker, "/v1/responses", {"input": "Why?", "stream": True})
    *events, done = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert "[DONE]" == done
    said = [json.loads(event) for event in events]
    assert list(range(len(said))) == [event["sequence_number"] for event in said]
    return "".join(event.get("delta", "") for event in said)


async def as_chunks(client: Client, worker: Worker) -> str:
    body = {"messages": [{"role": "user", "content": "Why?"}], "stream": True}
    text = await posted(client, worker, "/v1/chat/completions", body)
    *chunks, done = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert "[DONE]" == done
    deltas = [choice["delta"] for chunk in chunks for choice in json.loads(chunk)["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def as_a_whole(client: Client, worker: Worker) -> str:
    response = json.loads(await posted(client, worker, "/v1/responses", {"input": "Why?"}))
    text: str = response["output"][0]["content"][0]["text"]
    return text


@pytest.mark.parametrize("ask", [over_websocket, as_events, as_chunks, as_a_whole])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
async def test_nobody_reads_the_log_of_what_was_just_submitted(
    serve: Serve,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Client, Worker], Awaitable[str]],
    encrypted: bool,
) -> None:
    path = tmp_path / "keys"
    path.write_text(b64encode(os.urandom(32)).decode())
    client = await serve(**({"encryption_keys": str(path)} if encrypted else {}))
    server = client.app[SERVER]
    subscribe_first(server, monkeypatch)
    cipher = Cipher(path.read_text()) if encrypted else None
    async with Pipe(Redis(redis_url, cipher)) as pipe:
        worker = Worker(pipe)
        for _ in range(3):
            assert "Because." == await ask(client, worker)
    assert 0 == reads(server)
    await wait_until(lambda: at_rest(server))
    assert await no_subscription(server)


async def test_a_place_in_the_queue_is_told_without_a_read(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe_first(server, monkeypatch)
    async with connected(client) as one, connected(client) as other:
        for place, talk in enumerate((one, other), 1):
            await talk.say("response.create", input="Why?")
            told = await talk.until("holdline:queued")
            assert (place, "workers_busy") == (told["position"], told["reason"])
        assert 0 == reads(server)
        for feed in server.relay._feeds.values():
            assert feed.listener is None


# Any doubt.


async def nothing(pipe: Pipe, worker: Worker) -> None:
    del pipe, worker


async def answered(pipe: Pipe, worker: Worker) -> None:
    del pipe
    await worker.answer("Because", ".")


async def cut(pipe: Pipe, worker: Worker) -> None:
    del worker
    await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")


async def cut_and_answered(pipe: Pipe, worker: Worker) -> None:
    await cut(pipe, worker)
    await worker.answer("Because", ".")


async def answered_and_cut(pipe: Pipe, worker: Worker) -> None:
    await worker.answer("Because", ".")
    await cut(pipe, worker)


async def answered_at_length(pipe: Pipe, worker: Worker) -> None:
    del pipe
    await worker.answer("Because" + " of this" * (MAX_NOTIFICATION_BYTES // 5), ".")


async def answered_in_many_pieces(pipe: Pipe, worker: Worker) -> None:
    del pipe
    await worker.answer(*["Because"] * (MAX_BYTES // EVENT_BYTES), ".")


@pytest.fixture
async def meddling(
    server: Server, redis: Redis, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[Meanwhile], None]]:
    """Has something happen after a submission, before its caller learns that it was accepted."""
    submit = server.queue.submit
    async with Pipe(redis) as pipe:

        def meddle(meanwhile: Meanwhile) -> None:
            async def submitted_and(*args: Any, **named: Any) -> object:
                accepted = await submit(*args, **named)
                await meanwhile(pipe, worker)
                return accepted

            monkeypatch.setattr(server.queue, "submit", submitted_and)

        yield meddle


@pytest.mark.parametrize(
    ("meanwhile", "most_reads"),
    [
        (nothing, 1),
        (answered, 1),
        (cut, None),
        (cut_and_answered, None),
        (answered_and_cut, None),
        (answered_at_length, None),
        (answered_in_many_pieces, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["socket", "stream"])
async def test_a_notification_before_the_submission_is_accepted_is_sent_once(
    client: Client,
    worker: Worker,
    server: Server,
    meddling: Callable[[Meanwhile], None],
    meanwhile: Meanwhile,
    most_reads: int | None,
    stream: bool,
) -> None:
    meddling(meanwhile)
    over = meanwhile not in (nothing, cut)
    if stream:
        asking = asyncio.create_task(
            client.post("/v1/responses", json={"input": "Why?", "stream": True})
        )
        if not over:
            await worker.answer("Because", ".")
        async with await asking as answer:
            lines = (await answer.text()).splitlines()
        said = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    else:
        async with connected(client) as talk:
            await talk.say("response.create", input="Why?")
            if not over:
                await worker.answer("Because", ".")
            await talk.until("response.completed")
            said = talk.logged()
    assert list(range(len(said))) == [event["sequence_number"] for event in said]
    assert "response.completed" == said[-1]["type"]
    text = "".join(event.get("delta", "") for event in said)
    assert text == said[-1]["response"]["output"][0]["content"][0]["text"]
    if most_reads is not None:
        assert most_reads >= reads(server)
    await wait_until(lambda: at_rest(server))


async def test_a_beginning_without_a_notification_is_read(
    client: Client, worker: Worker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification = Feed.notify
    lost: list[bytes] = []

    def deaf(self: Feed, payload: bytes) -> None:
        if lost:
            notification(self, payload)
        else:
            lost.append(payload)

    monkeypatch.setattr(Feed, "notify", deaf)
    assert "Because." == await over_websocket(client, worker)
    assert lost
    assert 1 <= reads(server)


async def test_a_request_that_is_too_large_for_a_notification_is_read(
    client: Client, worker: Worker, server: Server
) -> None:
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?", instructions="x" * MAX_NOTIFICATION_BYTES)
        await worker.answer("Because", ".")
        await talk.until("response.completed")
        numbers = [event["sequence_number"] for event in talk.logged()]
    assert list(range(len(numbers))) == numbers
    assert 1 <= reads(server)


# Nothing is left.


@pytest.mark.parametrize(
    ("body", "settings", "code"),
    [
        ({"input": "Why not?", "idempotency_key": "k"}, {}, "idempotency_key_reused"),
        ({"input": "And?"}, {"max_waiting": "1"}, "queue_full"),
        ({"input": "And?", "previous_response_id": RESPONSE}, {}, "previous_response_not_found"),
    ],
)
async def test_a_submission_that_is_refused_leaves_no_feed_and_no_subscription(
    serve: Serve, body: dict[str, Any], settings: dict[str, str], code: str
) -> None:
    client = await serve(**settings)
    server = client.app[SERVER]
    first = {"input": "Why?", "background": True, "idempotency_key": "k"}
    async with client.post("/v1/responses", json=first) as accepted:
        assert 200 == accepted.status
    async with connected(client) as talk:
        await talk.say("response.create", **body)
        assert code == (await talk.error())[1]
        for path in ("/v1/responses", "/v1/responses?stream"):
            async with client.post(path, json=body | {"stream": "?" in path}) as refused:
                assert code == own_code((await refused.json())["error"])
        assert not server.relay._feeds
        assert not server.relay.subscriber._subscriptions
    assert await no_subscription(server)
    assert server.relay.healthy


async def test_a_key_that_is_sent_again_follows_the_response_that_it_made(
    client: Client, worker: Worker, server: Server
) -> None:
    create = {"input": "Why?", "idempotency_key": "k"}
    async with connected(client) as one, connected(client) as other:
        await one.say("response.create", **create)
        made = await one.until("response.created")
        await other.say("response.create", **create)
        assert made == await other.until("response.created")
        assert {made["response"]["id"]} == set(server.relay._feeds)
        await worker.answer("Because", ".")
        for talk in (one, other):
            await talk.until("response.completed")
    await wait_until(lambda: at_rest(server))


async def test_a_socket_that_goes_while_it_submits_leaves_nothing(
    client: Client, server: Server, meddling: Callable[[Meanwhile], None]
) -> None:
    waiting = asyncio.Event()

    async def for_ever(pipe: Pipe, worker: Worker) -> None:
        del pipe, worker
        waiting.set()
        await asyncio.Event().wait()

    meddling(for_ever)
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?")
        await waiting.wait()
        assert 1 == len(server.relay._feeds)
    await wait_until(lambda: at_rest(server))
    assert await no_subscription(server)


# By hand.


@pytest.fixture
async def relay(redis: Redis, pipe: Pipe) -> AsyncIterator[Relay]:
    async with Relay(redis, pipe, Queue(pipe, SETTINGS), Metrics(), doubt_seconds=60) as relay:
        await wait_until(lambda: relay.healthy)
        yield relay


async def submit(pipe: Pipe, listener: SubmissionListener) -> Job:
    job = a_job("acme/ann")
    listener.listen(job.id, job.owner, "")
    accepted = await Queue(pipe, SETTINGS).submit(job, submitted(job))
    listener.accepted(accepted.number)
    return job


@pytest.mark.parametrize(("viewer", "may"), [("acme/ann", True), ("acme/*", True), ("b/*", False)])
async def test_notified_entries_are_shown_to_nobody_who_may_not_see_them(
    relay: Relay, pipe: Pipe, viewer: str, may: bool
) -> None:
    sink = RecordingSink()
    with relay.listen() as listener:
        job = await submit(pipe, listener)
        follower = relay.follow(job.id, viewer, -1, sink)
    await wait_until(lambda: sink.frames or sink.ended_times)
    assert ([0, 1] if may else []) == sink.numbers
    assert may or (sink.problem is not None and 404 == sink.problem.status)
    follower.leave()
    assert {} == relay._feeds


@pytest.mark.parametrize("said", [[2, 1], ["queued", 7, 0, "worker_lost"], ["gone"], ["what?"]])
async def test_a_notification_without_entries_leaves_it_to_the_log(
    relay: Relay, pipe: Pipe, said: list[Any]
) -> None:
    with relay.listen() as listener:
        job = await submit(pipe, listener)
        await wait_until(lambda: listener._frames)
        await pipe.call("PUBLISH", NAMES.notifications(job.id), msgpack.packb(said))
        await wait_until(lambda: listener._doubted)
        assert await listener.look() is None


async def test_who_leaves_at_once_leaves_nothing(relay: Relay, pipe: Pipe) -> None:
    with relay.listen() as listener:
        job = await submit(pipe, listener)
        relay.follow(job.id, job.owner, -1, RecordingSink()).leave()
        assert job.id in relay.followed
    assert ({}, {}) == (relay._feeds, relay.subscriber._subscriptions)


async def test_notified_entries_serve_one_read(relay: Relay, pipe: Pipe) -> None:
    sinks = [RecordingSink() for _ in range(3)]
    with relay.listen() as listener:
        job = await submit(pipe, listener)
        followers = [relay.follow(job.id, job.owner, -1, sink) for sink in sinks]
    await wait_until(lambda: all(len(sink.frames) == 2 for sink in sinks))
    assert all([0, 1] == sink.numbers for sink in sinks)
    for follower in followers:
        follower.leave()
    assert ({}, {}) == (relay._feeds, relay.subscriber._subscriptions)


RINGS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 8), st.integers(0, 3)), st.sampled_from(["gap", "something else"])
    ),
    max_size=8,
)


@examples(max_examples=300)
@given(RINGS)
async def test_notified_entries_are_the_beginning_of_the_log_or_nothing(
    notifications: list[tuple[int, int] | str],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(submission_module, "NOTIFICATION_TURNS", 0)
        listener = SubmissionListener(nothing_subscribed)
        for notification in notifications:
            match notification:
                case (int(first), int(count)):
                    listener.notify(first, frames(first, count))
                case "gap":
                    listener.gap()
                case _:
                    listener.doubt()
        look = await listener.look()
        assert await listener.look() is None
    if look is not None:
        view, found = look
        assert list(range(view.length)) == [each.sequence_number for each in found]
        assert DELTAS[: view.length] == view.entries
        began = notifications.index(
            next(
                notification
                for notification in notifications
                if isinstance(notification, tuple) and notification[1]
            )
        )
        assert "something else" not in notifications
        assert "gap" not in notifications[began:]
        begun = any(
            notification[0] for notification in notifications if isinstance(notification, tuple)
        )
        assert (Status.RUNNING if begun else Status.QUEUED) == view.status


async def test_a_first_notification_after_the_reply_is_waited_for() -> None:
    listener = SubmissionListener(nothing_subscribed)
    looks = [asyncio.create_task(listener.look()) for _ in range(2)]
    await asyncio.sleep(0)
    listener.notify(0, frames(0, 2))
    found, other = await asyncio.gather(*looks)
    assert found is not None
    assert (2, Status.QUEUED) == (found[0].length, found[0].status)
    assert other is None


async def test_what_is_kept_is_bounded() -> None:
    listener = SubmissionListener(nothing_subscribed)
    entry = encode_event(text_delta("msg_1", 0, "x" * 1000))
    for number in range(MAX_BYTES // (len(entry) + EVENT_BYTES) + 1):
        assert not listener._doubted
        listener.notify(number, [frame(number, entry)])
    assert listener._doubted
    assert [] == listener._frames
    assert await listener.look() is None


async def test_a_feed_that_nobody_follows_is_let_go(relay: Relay) -> None:
    feed = relay.feed(RESPONSE)
    assert relay.feed(RESPONSE) is feed
    relay.release(feed)
    assert ({}, {}) == (relay._feeds, relay.subscriber._subscriptions)
