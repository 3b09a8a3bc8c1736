"""Tests that a submission uses notifications, and reads the log only when in doubt."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.cipher import Cipher
from jobs.log.log import MAX_NOTIFICATION_BYTES
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.replies import Accepted
from server.api.frames import Frame
from server.app import SERVER, Server
from server.live.feed import Feed
from server.live.submission import EVENT_BYTES, MAX_BYTES, SubmissionListener
from tests.error_codes import own_code
from tests.server.conftest import Client, Serve
from tests.server.factories import RESPONSE, Worker
from tests.server.talk import at_rest, connected
from tests.subscriptions import channels_of
from tests.system import wait_until

Meanwhile = Callable[[Pipe, Worker], Awaitable[object]]


def reads(server: Server) -> float:
    return server.metrics.registry.get("holdline_log_reads_total")


async def no_subscription(server: Server) -> bool:
    """Returns true if Redis has no subscription except that of the server's probe."""
    return not await server.pipe.call("PUBSUB", "SHARDCHANNELS", "holdline:*notifications*")


# Submissions that do not need to read the log


def notify_first(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the first notification of each submission arrive before the reply.

    Redis writes the reply first, and on a busy machine it may pause between the two.
    """
    submit, notify = server.queue.submit, SubmissionListener.notify
    notified = asyncio.Event()

    def notify_and_set(listener: SubmissionListener, first: int, frames: list[Frame]) -> None:
        notify(listener, first, frames)
        notified.set()

    async def submit_and_wait(*given: Any, **more: Any) -> Accepted:
        await wait_until(lambda: all(feed.confirmed for feed in server.relay._feeds.values()))
        notified.clear()
        accepted = await submit(*given, **more)
        async with asyncio.timeout(20):
            await notified.wait()
        return accepted

    monkeypatch.setattr(SubmissionListener, "notify", notify_and_set)
    monkeypatch.setattr(server.queue, "submit", submit_and_wait)


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
async def test_the_log_of_a_new_submission_is_not_read(
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
    notify_first(server, monkeypatch)
    cipher = Cipher(path.read_text()) if encrypted else None
    async with Pipe(Redis(redis_url, cipher)) as pipe:
        worker = Worker(pipe)
        for _ in range(3):
            assert "Because." == await ask(client, worker)
    assert 0 == reads(server)
    await wait_until(lambda: at_rest(server))
    await wait_until(lambda: no_subscription(server))


async def test_the_queue_position_is_sent_without_a_read(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    notify_first(server, monkeypatch)
    async with connected(client) as one, connected(client) as other:
        for place, talk in enumerate((one, other), 1):
            await talk.say("response.create", input="Why?")
            told = await talk.until("holdline:queued")
            assert (place, "workers_busy") == (told["position"], told["reason"])
        assert 0 == reads(server)
        for feed in server.relay._feeds.values():
            assert feed.listener is None


# Submissions that fail or whose notifications are incomplete


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
    """Runs an action after a submission and before the submitter receives the reply."""
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


async def test_the_log_is_read_if_the_first_notification_is_missing(
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


async def test_the_log_is_read_if_the_request_is_too_large_for_a_notification(
    client: Client, worker: Worker, server: Server
) -> None:
    async with connected(client) as talk:
        await talk.say("response.create", input="Why?", instructions="x" * MAX_NOTIFICATION_BYTES)
        await worker.answer("Because", ".")
        await talk.until("response.completed")
        numbers = [event["sequence_number"] for event in talk.logged()]
    assert list(range(len(numbers))) == numbers
    assert 1 <= reads(server)


# Refused submissions leave no subscription behind


@pytest.mark.parametrize(
    ("body", "settings", "code"),
    [
        ({"input": "Why not?", "idempotency_key": "k"}, {}, "idempotency_key_reused"),
        ({"input": "And?"}, {"max_waiting": "1"}, "queue_full"),
        ({"input": "And?", "previous_response_id": RESPONSE}, {}, "previous_response_not_found"),
    ],
)
async def test_a_refused_submission_leaves_no_feed_and_no_subscription(
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
        assert not channels_of(server.relay.subscriber)
    await wait_until(lambda: no_subscription(server))
    assert server.relay.healthy


async def test_a_repeated_key_follows_the_existing_response(
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


async def test_a_socket_closed_during_a_submission_leaves_nothing_behind(
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
    await wait_until(lambda: no_subscription(server))
