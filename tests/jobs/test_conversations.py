"""Tests the log of a conversation: its order, bounds, deletions and pending responses."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.cipher import Cipher
from jobs.conversations import MAX_PENDING, ConversationStore
from jobs.errors import (
    ConversationBusy,
    ConversationFull,
    EncryptionKeyMissing,
    TurnMissing,
    UnknownConversation,
)
from jobs.ids import new_conversation_id, new_response_id
from jobs.log.codec import encode_event
from jobs.names import partition_of
from jobs.queue import Queue
from jobs.record import Job, Status
from jobs.redis.pipe import Pipe
from jobs.redis.url import redis_from_url
from jobs.settlement import ABANDONED_MS, settle
from tests.jobs.factories import NAMES, SETTINGS, a_job, ending, on_redis, opening
from tests.keys_without_ttl import keys_without_ttl

ANNA = "acme/anna"


@pytest.fixture
def store(queue: Queue) -> ConversationStore:
    return queue.conversations


def item(id_: str, text: str = "") -> dict[str, Any]:
    return {"id": id_, "type": "message", "text": text or id_}


async def a_conversation(
    store: ConversationStore, *items: dict[str, Any], owner: str = "public", account: str = ""
) -> str:
    id_ = new_conversation_id(range(1), account, owner, None)
    await store.create(id_, owner, account, 1_700_000_000, {}, list(items))
    return id_


async def ids_of(store: ConversationStore, id_: str) -> list[str]:
    return [one["id"] for _, one in (await store.read(id_, stop=-1)).items]


async def a_turn(store: ConversationStore, id_: str, text: str, **params: Any) -> Job:
    """Makes a job that continues the conversation, with all items before it in its context."""
    found = await store.read(id_, stop=-1)
    job = a_job(text=text, **params)
    return replace(
        job,
        params={**job.params, "conversation": {"id": id_}},
        context=[one for _, one in found.items],
        turns=found.slices,
    )


async def finish(pipe: Pipe, job: Job, text: str = "Because.") -> dict[str, Any]:
    """Ends a job as a worker that dies before it appends the output. Returns the output item."""
    end = ending(job, text=text)
    await pipe.call("HSET", NAMES.job(job.id), "status", "completed")
    await pipe.call("RPUSH", NAMES.log(job.id), encode_event(end))
    output: dict[str, Any] = end["response"]["output"][0]
    return output


async def test_items_are_listed_in_the_order_of_their_appends(store: ConversationStore) -> None:
    id_ = await a_conversation(store, item("a"))
    await store.append(id_, "resp", [item("b"), item("c")])
    await store.add(id_, [item("d")])
    await store.append(id_, "resp", [item("b"), item("c"), item("e")], status=Status.COMPLETED)

    assert ["a", "b", "c", "d", "e"] == await ids_of(store, id_)
    for order, after, limit, expected in [
        ("asc", "", 2, ("ab", True)),
        ("asc", "b", 3, ("cde", False)),
        ("desc", "", 9, ("edcba", False)),
        ("desc", "c", 1, ("b", True)),
        ("asc", "e", 1, ("", False)),
    ]:
        items, more = await store.page(id_, "public", after=after, order=order, limit=limit)
        assert expected == ("".join(one["id"] for one in items), more)
    with pytest.raises(LookupError):
        await store.page(id_, "public", after="x", order="asc", limit=1)


async def test_only_its_owner_sees_and_changes_a_conversation(store: ConversationStore) -> None:
    id_ = await a_conversation(store, item("a"), owner=ANNA)
    assert ANNA == (await store.read(id_, viewer="acme/*")).owner
    for attempt in (
        store.read(id_, viewer="acme/ben"),
        store.page(id_, "bolt/*", after="", order="asc", limit=1),
        store.update(id_, "acme/ben", {}),
        store.delete_item(id_, "acme/ben", "a"),
        store.hold(id_, "acme/ben", new_response_id(0), []),
        store.read("conv_000" + "1" * 32),
        store.read("conv_} 1"),
    ):
        with pytest.raises(UnknownConversation):
            await attempt
    assert not await store.delete(id_, "acme/ben")
    assert ["a"] == await ids_of(store, id_)


async def test_a_deleted_item_is_gone_but_pending_responses_can_read_it(
    store: ConversationStore,
) -> None:
    id_ = await a_conversation(store, item("a"), item("b"), item("c"))
    slices = (await store.read(id_, stop=-1)).slices
    job = new_response_id(0)
    await store.hold(id_, "public", job, [])
    for _ in range(2):
        await store.delete_item(id_, "public", "b")

    assert ["a", "c"] == await ids_of(store, id_)
    assert ["a", "b", "c"] == [one["id"] for one in await store.load(job, slices)]
    with pytest.raises(TurnMissing):
        await store.load("", slices)
    page, _ = await store.page(id_, "public", after="b", order="asc", limit=9)
    assert ["c"] == [one["id"] for one in page]
    await store.append(id_, job, [item("b"), item("d")], status=Status.COMPLETED)
    assert ["a", "c", "d"] == await ids_of(store, id_)
    assert [(0, 1), (2, 3), (4, 5)] == [
        (one.first, one.stop) for one in (await store.read(id_, stop=-1)).slices
    ]
    with pytest.raises(TurnMissing):
        await store.load(job, slices)
    with pytest.raises(LookupError):
        await store.delete_item(id_, "public", "x")


async def test_a_deleted_conversation_stays_readable_for_its_pending_responses(
    store: ConversationStore, pipe: Pipe
) -> None:
    id_ = await a_conversation(store, item("a"), account="public/@a")
    slices = (await store.read(id_, stop=-1)).slices
    jobs = [new_response_id(0), new_response_id(0)]
    for job in jobs:
        await store.hold(id_, "public", job, [])
    assert await store.delete(id_, "public")
    assert not await store.delete(id_, "public")

    assert ["a"] == [one["id"] for one in await store.load(jobs[0], slices)]
    with pytest.raises(UnknownConversation):
        await store.read(id_)
    with pytest.raises(UnknownConversation):
        await store.hold(id_, "public", new_response_id(0), [])
    await store.append(id_, jobs[0], [item("b")], status=Status.COMPLETED)
    await store.release(id_, jobs[1])
    assert [] == await pipe.call("KEYS", "*")


async def test_a_range_of_a_log_that_redis_lost_and_refilled_is_missing(
    store: ConversationStore, pipe: Pipe
) -> None:
    id_ = await a_conversation(store, item("a"), item("b"))
    [part] = (await store.read(id_, stop=-1)).slices
    await pipe.call("RPOP", NAMES.items(id_))
    with pytest.raises(TurnMissing):
        await store.load("", [part])
    await pipe.call("HDEL", NAMES.positions(id_), "b")
    await store.add(id_, [item("other")])
    with pytest.raises(TurnMissing):
        await store.load("", [part])


async def test_a_conversation_has_bounds_that_its_responses_cannot_exceed_at_the_door(
    pipe: Pipe,
) -> None:
    small = replace(
        SETTINGS,
        max_conversation_bytes=2_500,
        max_conversation_items=4,
        subject_conversation_bytes=3_400,
    )
    store = ConversationStore(pipe, small)
    id_ = await a_conversation(store, *(item(c) for c in "abc"), account=ANNA)
    with pytest.raises(ConversationFull, match="items is reached: 4"):
        await store.add(id_, [item("d"), item("e")])
    with pytest.raises(ConversationFull, match="items is reached: 4"):
        await store.hold(id_, "public", new_response_id(0), [item("d"), item("e")])
    with pytest.raises(ConversationFull, match="items is reached: 4"):
        await a_conversation(store, *(item(c) for c in "abcde"))
    with pytest.raises(ConversationFull, match=" bytes is reached: 2500"):
        await a_conversation(store, item("a", "x" * 2_000))
    with pytest.raises(ConversationFull, match=" bytes is reached: 2500"):
        await store.add(id_, [item("d", "x" * 2_000)])
    await store.add(id_, [item("a"), item("b"), item("d")])  # only `d` is new

    other = await a_conversation(store, item("a", "x" * 1_300), account=ANNA)
    with pytest.raises(ConversationFull, match="account_bytes is reached: 3400"):
        await a_conversation(store, item("a", "x" * 500), account=ANNA)
    with pytest.raises(ConversationFull, match="account_bytes is reached: 3400"):
        await store.hold(other, "public", new_response_id(0), [item("b", "x" * 400)])
    assert await store.delete(other, "public")
    await a_conversation(store, item("a", "x" * 500), account=ANNA)


async def test_an_expired_conversation_no_longer_counts_for_its_account(pipe: Pipe) -> None:
    store = ConversationStore(
        pipe, replace(SETTINGS, conversation_ms=40, subject_conversation_bytes=2_000)
    )
    await a_conversation(store, item("a", "x" * 600), account=ANNA)
    with pytest.raises(ConversationFull):
        await a_conversation(store, item("a", "x" * 600), account=ANNA)
    await asyncio.sleep(0.06)  # longer than the TTL of a conversation
    await a_conversation(store, item("a", "x" * 600), account=ANNA)


async def test_a_conversation_outlives_its_pending_responses_and_then_its_retention_applies(
    pipe: Pipe,
) -> None:
    store = ConversationStore(pipe, replace(SETTINGS, conversation_ms=60_000))
    id_ = await a_conversation(store, item("a"), account=ANNA)
    keys = (NAMES.conversation(id_), NAMES.items(id_), NAMES.positions(id_))

    async def lifetimes() -> list[int]:
        return [await pipe.call("PTTL", key) for key in keys]

    assert all(59_000 < ttl <= 60_000 for ttl in await lifetimes())
    job = new_response_id(0)
    await store.hold(id_, "public", job, [])
    await store.add(id_, [item("b")])
    assert all(ttl > SETTINGS.job_ttl_ms - 1_000 for ttl in await lifetimes())
    await store.append(id_, job, [item("c")], status=Status.COMPLETED)
    assert all(59_000 < ttl <= 60_000 for ttl in await lifetimes())


async def test_the_number_of_pending_responses_is_bounded(store: ConversationStore) -> None:
    id_ = await a_conversation(store)
    responses = [new_response_id(0) for _ in range(MAX_PENDING)]
    for one in responses:
        await store.hold(id_, "public", one, [])
    with pytest.raises(ConversationBusy):
        await store.hold(id_, "public", new_response_id(0), [])
    await store.hold(id_, "public", responses[0], [])


async def test_a_submission_appends_its_input_and_a_refused_one_leaves_nothing(
    queue: Queue, store: ConversationStore, pipe: Pipe
) -> None:
    id_ = await a_conversation(store)
    job = await a_turn(store, id_, "one")
    await queue.submit(job, opening(job), idempotency_key="k", fingerprint="f")
    again = await a_turn(store, id_, "one")
    accepted = await queue.submit(again, opening(again), idempotency_key="k", fingerprint="f")
    assert job.id == accepted.response_id
    found = await store.read(id_, stop=-1)
    assert [job.params["input"][0]] == [one for _, one in found.items]
    assert [(job.id, True)] == [(one.response_id, one.asked) for one in found.pending]
    assert [] == await keys_without_ttl(pipe)


async def test_a_response_without_generation_is_not_pending(
    queue: Queue, store: ConversationStore
) -> None:
    id_ = await a_conversation(store)
    job = await a_turn(store, id_, "one")
    await queue.submit_completed(job, [ending(job)])
    found = await store.read(id_, stop=-1)
    assert (1, []) == (len(found.items), found.pending)


async def test_settling_appends_what_dead_processes_did_not_append(
    queue: Queue, store: ConversationStore, pipe: Pipe
) -> None:
    id_ = await a_conversation(store)
    jobs = [await a_turn(store, id_, text) for text in ("one", "two")]
    for job in jobs:
        await store.hold(id_, "public", job.id, job.params["input"])
        # The server dies after the submission, so nothing is appended.
        bare = replace(job, params={k: v for k, v in job.params.items() if k != "conversation"})
        await queue.submit(bare, opening(bare))
    assert [] == await ids_of(store, id_)
    assert await settle(pipe, store, id_, (await store.read(id_)).pending)
    asked = [job.params["input"][0]["id"] for job in jobs]
    assert sorted(asked) == sorted(await ids_of(store, id_))
    assert not await settle(pipe, store, id_, (await store.read(id_)).pending)

    # The worker dies after the end of the response, so the output is not appended.
    output = await finish(pipe, jobs[0])
    view = await store.read(id_)
    await asyncio.gather(*(settle(pipe, store, id_, view.pending) for _ in range(3)))
    assert output["id"] == (await ids_of(store, id_))[-1]
    assert [jobs[1].id] == [one.response_id for one in (await store.read(id_)).pending]


async def test_workers_find_a_conversation_whose_items_are_missing(
    queue: Queue, store: ConversationStore, pipe: Pipe
) -> None:
    id_ = await a_conversation(store)
    job = await a_turn(store, id_, "one")
    await queue.submit(job, opening(job))
    assert [] == await store.claim_unsettled(0)
    await pipe.call("ZADD", NAMES.unsettled, "XX", 0, id_)
    [(found, [pending])] = await store.claim_unsettled(0)
    assert (id_, job.id, True) == (found, pending.response_id, pending.asked)
    assert [] == await store.claim_unsettled(0)

    await store.append(id_, job.id, job.params["input"], status=Status.COMPLETED)
    assert 0 == await pipe.call("ZCARD", NAMES.unsettled)


async def test_a_response_that_was_never_submitted_is_released_after_a_minute(
    store: ConversationStore, pipe: Pipe
) -> None:
    id_ = await a_conversation(store)
    await store.hold(id_, "public", new_response_id(0), [])
    [pending] = (await store.read(id_)).pending
    assert not await settle(pipe, store, id_, [pending])
    assert await settle(pipe, store, id_, [replace(pending, age_ms=ABANDONED_MS)])
    assert [] == (await store.read(id_)).pending


async def test_items_and_metadata_are_encrypted(redis_url: str, pipe: Pipe) -> None:
    keys = [f"{letter * 43}=" for letter in "AB"]
    async with Pipe(redis_from_url(redis_url, Cipher(keys[0]))) as encrypted:
        store = ConversationStore(encrypted, SETTINGS)
        id_ = await a_conversation(store, item("a", "secret word"))
        await store.update(id_, "public", {"topic": "secret word"})
        found = await store.read(id_, stop=-1)
        assert ("secret word", "secret word") == (
            found.items[0][1]["text"],
            found.metadata["topic"],
        )
    for key in await pipe.call("KEYS", "*"):
        dumped = await pipe.call("DUMP", key)
        assert b"secret" not in dumped
    async with Pipe(redis_from_url(redis_url, Cipher(keys[1]))) as other:
        with pytest.raises(EncryptionKeyMissing):
            await ConversationStore(other, SETTINGS).read(id_, stop=-1)


def test_the_conversations_of_an_account_are_in_one_partition() -> None:
    numbers = range(64)

    def partitions(account: str) -> set[int]:
        ids = (new_conversation_id(numbers, account, "o", None) for _ in range(50))
        return {partition_of(f"resp_{id_[5:]}") for id_ in ids}

    assert 1 == len(partitions(ANNA))
    assert 5 < len(partitions(""))
    assert new_conversation_id(numbers, "", "o", "k") == new_conversation_id(numbers, "", "o", "k")
    assert new_conversation_id(numbers, "", "o", "k") != new_conversation_id(numbers, "", "p", "k")


@on_redis(40)
@given(data=st.data())
async def test_any_sequence_of_changes_and_repeats_gives_the_log_of_the_model(
    pipe: Pipe, data: st.DataObject
) -> None:
    """The model: ids in the order of their first append, without the deleted ones."""
    await pipe.call("FLUSHALL")
    store = ConversationStore(pipe, SETTINGS)
    id_ = await a_conversation(store)
    shown: list[str] = []
    ever: set[str] = set()
    held: dict[str, list[str]] = {}
    slices: dict[str, Any] = {}
    for step in range(data.draw(st.integers(1, 25))):
        match data.draw(st.sampled_from(["append", "append", "delete", "hold", "end"])):
            case "append":
                ids = data.draw(st.lists(st.sampled_from("abcdefgh"), max_size=3, unique=True))
                await store.add(id_, [item(one) for one in ids])
                shown += [one for one in ids if one not in ever]
                ever |= set(ids)
            case "delete" if ever:
                one = data.draw(st.sampled_from(sorted(ever)))
                await store.delete_item(id_, "public", one)
                shown = [each for each in shown if each != one]
            case "hold":
                job = f"resp_{step:035x}"
                slices[job] = (await store.read(id_, stop=-1)).slices
                await store.hold(id_, "public", job, [])
                held[job] = list(shown)
            case "end" if held:
                job = data.draw(st.sampled_from(sorted(held)))
                await store.append(id_, job, [], status=Status.COMPLETED)
                del held[job]
        found = await store.read(id_, stop=-1)
        assert shown == [one["id"] for _, one in found.items]
        assert shown == [one["id"] for one in await store.load("", found.slices)]
        for job, expected in held.items():
            assert expected == [one["id"] for one in await store.load(job, slices[job])]
        stored = await pipe.call("LRANGE", NAMES.items(id_), 0, -1)
        assert sum(map(len, stored)) <= found.bytes
