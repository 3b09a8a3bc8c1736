"""Tests the feeds of conversations: the events of each change, and the list of a user."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from jobs.conversation_feed import MAX_ITEM_BYTES, FeedEvent, FeedStore
from jobs.conversations import ConversationStore
from jobs.errors import ConversationFull, UnknownConversation
from jobs.ids import new_conversation_id, new_response_id
from jobs.queue import Queue
from jobs.record import Status
from jobs.redis.pipe import Pipe
from jobs.scripts import calls
from tests.jobs.factories import NAMES, SETTINGS
from tests.keys_without_ttl import keys_without_ttl

ANNA = "acme/anna"


@pytest.fixture
def store(queue: Queue) -> ConversationStore:
    return queue.conversations


@pytest.fixture
def feeds(queue: Queue) -> FeedStore:
    return queue.feeds


def item(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "message"}


async def a_conversation(
    store: ConversationStore, *items: dict[str, Any], owner: str = ANNA, account: str = ANNA
) -> str:
    id_ = new_conversation_id(range(1), account, owner, None)
    await store.create(id_, owner, account, 1_700_000_000, {"title": "Sky"}, list(items))
    return id_


def shown(events: list[FeedEvent]) -> list[tuple[Any, ...]]:
    """Returns the kind, the values and the ids of the items of each event."""
    return [(one.kind, *one.values, *(item["id"] for item in one.items)) for one in events]


async def a_turn(store: ConversationStore, id_: str, *, previous: str = "") -> str:
    """Adds a turn with the input item `<response>-in` and the output item `<response>-out`."""
    response = new_response_id(0)
    asked = item(f"{response}-in")
    await store.hold(id_, ANNA, response, [asked])
    await store.append(id_, response, [asked], previous=previous)
    answer = item(f"{response}-out")
    await store.append(id_, response, [asked], [answer], status=Status.COMPLETED, previous=previous)
    return response


async def test_each_change_appends_its_events(store: ConversationStore, feeds: FeedStore) -> None:
    id_ = await a_conversation(store, item("rules"))
    one = await a_turn(store, id_)
    two = await a_turn(store, id_)
    anew = await a_turn(store, id_, previous="-")
    again = await a_turn(store, id_, previous=one)
    await store.update(id_, ANNA, {"title": "Sea"})
    await store.add(id_, [item("a"), item("b")])
    await store.delete_item(id_, ANNA, "a")
    await feeds.mark_read(id_, ANNA, 4)
    for changes in (1, 1, 2):
        await feeds.note_feedback(id_, one, changes)

    def turn(response: str, previous: str, first: int) -> list[tuple[Any, ...]]:
        return [
            ("response_created", response, previous),
            ("items", first, first + 1, response, "input", f"{response}-in"),
            ("items", first + 1, first + 2, response, "output", f"{response}-out"),
            ("response_ended", response, "completed", ""),
        ]

    owner, state, events = await feeds.read(id_, 0)
    assert [
        ("created",),
        ("items", 0, 1, "", "", "rules"),
        *turn(one, "", 1),
        *turn(two, one, 3),
        *turn(anew, "", 5),
        *turn(again, one, 7),
        ("updated",),
        ("items", 9, 11, "", "", "b"),
        ("item_deleted", "a"),
        ("read", 4),
        ("feedback", one, "1"),
        ("feedback", one, "2"),
    ] == shown(events)
    assert [*range(len(events))] == [event.number for event in events]
    assert len(events) == len({event.id for event in events})
    assert (ANNA, {"title": "Sea"}, [], 4, events[-1].number) == (
        owner,
        state.metadata,
        state.running,
        state.read,
        state.last,
    )
    assert events[5:8] == (await feeds.read(id_, 5, limit=3)).events
    assert [] == (await feeds.read(id_, -1)).events


async def test_a_read_after_a_known_event_returns_a_further_event_of_any_size(
    store: ConversationStore, feeds: FeedStore
) -> None:
    """A follower that knows an event would otherwise read it again forever."""
    large = "x" * (MAX_ITEM_BYTES + 1)
    id_ = await a_conversation(store)
    for name in ("a", "b"):
        await store.add(id_, [{**item(name), "content": large}])
    await store.update(id_, ANNA, {"title": "Sea"})
    found = []
    for known in range(3):
        first, *events = (await feeds.read(id_, known, is_first_known=True)).events
        assert (known, []) == (first.number, first.items)
        found.append(shown(events))
    assert [[("items", 0, 1, "", "", "a")], [("items", 1, 2, "", "", "b")], [("updated",)]] == [
        [events[0]] for events in found
    ]
    assert ["created"] == [one.kind for one in (await feeds.read(id_, 0)).events]


async def test_a_repeated_change_appends_no_event(
    store: ConversationStore, feeds: FeedStore
) -> None:
    id_ = await a_conversation(store, item("a"))
    response = new_response_id(0)
    await store.hold(id_, ANNA, response, [])
    for _ in range(2):
        await store.append(id_, response, [item("b")])
    assert [response] == (await feeds.read(id_, -1)).state.running
    for _ in range(2):
        await store.append(id_, response, [item("b")], [item("c")], status=Status.FAILED)
        await store.update(id_, ANNA, {"title": "Sea"})
        await store.delete_item(id_, ANNA, "a")
        await feeds.mark_read(id_, ANNA, 9)
        await store.release(id_, response)
    before = (await feeds.read(id_, 0)).events
    assert [
        *("created", "items", "response_created", "items", "items", "response_ended"),
        *("updated", "item_deleted", "read"),
    ] == [event.kind for event in before]


async def test_a_settled_response_is_announced_even_if_its_server_died(
    store: ConversationStore, feeds: FeedStore
) -> None:
    id_ = await a_conversation(store)
    ended, rejected, deleted = (new_response_id(0) for _ in range(3))
    for response in (ended, rejected, deleted):
        await store.hold(id_, ANNA, response, [])
    await store.append(id_, ended, [item("b")], [item("c")], status=Status.CANCELLED, model="m")
    await store.release(id_, rejected)
    await store.append(id_, deleted, [])
    await store.release(id_, deleted)
    assert [
        ("response_created", ended, ""),
        ("items", 0, 1, ended, "input", "b"),
        ("items", 1, 2, ended, "output", "c"),
        ("response_ended", ended, "cancelled", "m"),
        ("response_created", deleted, ended),
        ("response_ended", deleted, "deleted", ""),
    ] == shown((await feeds.read(id_, 1)).events)


async def test_reading_never_goes_back_nor_beyond_the_items(
    store: ConversationStore, feeds: FeedStore
) -> None:
    id_ = await a_conversation(store, item("a"))
    assert (await feeds.read(id_, -1)).state.is_unread
    for number, expected in ((0, 0), (2**53, 1), (0, 1)):
        await feeds.mark_read(id_, ANNA, number)
        assert expected == (await feeds.read(id_, -1)).state.read
    assert not (await feeds.read(id_, -1)).state.is_unread
    await store.update(id_, ANNA, {"title": "Sea"})
    assert not (await feeds.read(id_, -1)).state.is_unread
    await a_turn(store, id_)
    assert (await feeds.read(id_, -1)).state.is_unread
    for id_of in ("acme/ben", "acme/*"):
        with pytest.raises(UnknownConversation):
            await feeds.mark_read(id_, id_of, 9)


async def test_events_are_completed_for_items_of_an_older_version(
    pipe: Pipe, store: ConversationStore, feeds: FeedStore
) -> None:
    id_ = await a_conversation(store, item("a"))
    entries = [msgspec.msgpack.encode(item("b")), b"-a", msgspec.msgpack.encode(item("c"))]
    await pipe.call("RPUSH", NAMES.items(id_), *entries)
    healed = [("items", 1, 2, "", "", "b"), ("item_deleted", "a"), ("items", 3, 4, "", "", "c")]
    assert healed == shown((await feeds.read(id_, 2)).events)

    # A conversation without any event gets its events with the first change.
    await pipe.call("DEL", NAMES.feed(id_))
    await pipe.call("HDEL", NAMES.conversation(id_), "fed", "news", "updated_at")
    await store.add(id_, [item("d")])
    assert [
        ("items", 0, 2, "", "", "a", "b"),
        healed[1],
        healed[2],
        ("items", 4, 5, "", "", "d"),
    ] == shown((await feeds.read(id_, 0)).events)
    assert [] == await keys_without_ttl(pipe)


async def test_a_list_shows_the_conversations_of_one_user(
    pipe: Pipe, store: ConversationStore, feeds: FeedStore
) -> None:
    others = await a_conversation(store, owner="acme/ben", account="acme/ben")
    shared = await a_conversation(store, owner="acme/", account="acme/@address")
    made = [await a_conversation(store) for _ in range(3)]
    await store.update(made[0], ANNA, {"title": "Sea"})

    async def pages(order: str) -> list[str]:
        found: list[str] = []
        more = True
        while more:
            after = found[-1] if found else ""
            _, _, more, states = await feeds.page(ANNA, after=after, order=order, limit=1)
            found += [one.id for one in states]
        return found

    # Conversations that were changed in the same millisecond are sorted by id.
    assert made[0] == (await pages("desc"))[0]
    assert sorted(made) == sorted(await pages("desc"))
    assert await pages("asc") == list(reversed(await pages("desc")))
    before, _ = await feeds.read_list(ANNA, -1)
    await feeds.note_feedback(made[0], new_response_id(0), 1)
    assert (before, []) == await feeds.read_list(ANNA, -1)
    assert made[0] == (await pages("desc"))[0]
    with pytest.raises(LookupError):
        await feeds.page(ANNA, after=others, order="asc", limit=1)
    assert [] == (await feeds.page("acme/@address", after="", order="asc", limit=9)).conversations
    assert await pipe.call("EXISTS", NAMES.conversation(shared))

    await store.delete(made[1], ANNA)
    await pipe.call("DEL", NAMES.conversation(made[2]))  # it has expired
    assert [made[0]] == await pages("desc")
    assert 1 == await pipe.call("ZCARD", NAMES.conversation_list(ANNA))

    await a_turn(store, made[0])
    await feeds.mark_read(made[0], ANNA, 99)
    last, events = await feeds.read_list(ANNA, 3)
    assert ["updated", "deleted", "response_created", "response_ended", "read"] == [
        one.kind for one in events
    ]
    assert events[0].state == events[-1].state == (await feeds.read(made[0], -1)).state
    assert (None, events[-1].number) == (events[1].state, last)
    assert [] == await keys_without_ttl(pipe)


async def test_the_feed_of_a_list_is_trimmed(
    pipe: Pipe, store: ConversationStore, feeds: FeedStore
) -> None:
    id_ = await a_conversation(store)
    for number in range(1005):
        await store.update(id_, ANNA, {"title": str(number)})
    last, events = await feeds.read_list(ANNA, 0)
    assert (1005, 6) == (last, events[0].number)
    assert 1000 == await pipe.call("XLEN", NAMES.feed(ANNA))


async def test_a_feed_has_a_limit_of_events(pipe: Pipe, feeds: FeedStore) -> None:
    small = ConversationStore(pipe, replace(SETTINGS, max_conversation_items=2))
    id_ = await a_conversation(small)
    for number in range(7):
        await small.update(id_, ANNA, {"title": str(number)})
    for refused in (small.update(id_, ANNA, {}), small.hold(id_, ANNA, new_response_id(0), [])):
        with pytest.raises(ConversationFull) as raised:
            await refused
        assert ("events", 8) == (raised.value.what, raised.value.limit)
    await small.update(id_, ANNA, {"title": "6"})
    assert 8 == len((await feeds.read(id_, 0)).events)


async def test_a_large_feed_is_read_in_parts(store: ConversationStore, feeds: FeedStore) -> None:
    id_ = await a_conversation(store)
    for number in range(4):
        await store.add(id_, [{**item(str(number)), "text": "x" * 200_000}])
    parts = [(await feeds.read(id_, first)).events for first in (1, 2, 4)]
    assert [1, 1, 1] == [len(part) for part in parts]


async def test_deletion_removes_the_feed(
    pipe: Pipe, store: ConversationStore, feeds: FeedStore
) -> None:
    id_ = await a_conversation(store, item("a"), owner="public", account="")
    await store.delete(id_, "public")
    with pytest.raises(UnknownConversation):
        await feeds.read(id_, 0)
    assert [] == await pipe.call("KEYS", "*")
    # An older version leaves the feed of a conversation that it deletes.
    await pipe.call("XADD", NAMES.feed(id_), "7-1", "e", "old")
    await store.create(id_, "public", "", 1, {}, [])
    assert [("created",)] == shown((await feeds.read(id_, 0)).events)
    await pipe.run(
        calls.complete_feed(conversation_key=NAMES.conversation(id_), prefix=NAMES.prefix, id=id_)
    )
