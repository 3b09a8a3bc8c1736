"""Tests conversations that several devices of one user follow over WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import indent
from typing import Any

import aiohttp
import pytest

import holdline_client
import holdline_client.errors
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES
from tests.jobs.proxy import Proxy
from tests.paths.conversation_devices import Device, Site, running_site
from tests.paths.documents import CLIENT, blocks
from tests.system import System

PROMPT = "tokens=3 why"
ANSWER = "c1t0 c1t1 c1t2 "


@pytest.fixture
async def site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(system, tmp_path) as site:
        yield site


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [one["type"].removeprefix("holdline:conversation.") for one in messages]


def code_of(event: dict[str, Any]) -> str:
    error = event["error"]
    code: str = error.get("holdline", {}).get("error_code", error["code"])
    return code


async def test_two_devices_see_a_turn_of_the_first_one_live(site: Site) -> None:
    async with (
        site.sdk("anna") as client,
        site.device("anna") as phone,
        site.device("anna", other=True) as desk,
    ):
        made = await client.conversations.create(metadata={"title": "Sky"})
        for device in (phone, desk):
            start = await device.follow(made.id)
            assert (made.id, 0, False) == (
                start["conversation"]["id"],
                start["sequence_number"],
                start["reset"],
            )
            device.received.clear()
        await phone.send(
            "response.create", input=PROMPT, model="m", conversation=made.id, stream_id="mine"
        )
        ended = await desk.until("holdline:conversation.response.ended")
        await phone.until("holdline:conversation.response.ended")
        response = ended["response_id"]

        # The second device receives the pieces on a lane of their own, and the first one does not
        # receive them twice.
        pieces = [one for one in desk.received if one.get("stream_id") == response]
        assert ANSWER == "".join(
            one["delta"] for one in pieces if one["type"] == "response.output_text.delta"
        )
        assert ["response.completed"] == [
            one["type"] for one in pieces if one["type"] == "response.completed"
        ]
        assert {"mine", None} == {one.get("stream_id") for one in phone.received}
        for device in (phone, desk):
            events = [one for one in device.received if "conversation" in one]
            assert ["response.created", "items.added", "items.added", "response.ended"] == kinds(
                events
            )
            assert [1, 2, 3, 4] == [one["sequence_number"] for one in events]
            assert [(response, None), "completed", "m"] == [
                (events[0]["response_id"], events[0]["previous_response_id"]),
                events[3]["status"],
                events[3]["model"],
            ]
            assert ["input", "output"] == [one["field"] for one in events[1:3]]
            asked, answered = events[1]["items"], events[2]["items"]
            assert ["user", "assistant"] == [one[0]["role"] for one in (asked, answered)]
            assert ANSWER == answered[0]["content"][0]["text"]


async def test_a_device_resumes_by_its_cursor(site: Site) -> None:
    async with site.sdk("anna") as client:
        made = await client.conversations.create()
        async with site.device("anna") as phone:
            start = await phone.follow(made.id, starting_after=-1)
            created = await phone.until("holdline:conversation.created")
            assert (created["sequence_number"], created["event_id"]) == (
                start["sequence_number"],
                start["event_id"],
            )
        await client.conversations.update(made.id, metadata={"title": "Sea"})
        message: Any = {"type": "message", "role": "user", "content": "one"}
        await client.conversations.items.create(made.id, items=[message])
        cursor = {"starting_after": 0, "event_id": created["event_id"]}
        async with site.device("anna", other=True) as phone:
            start = await phone.follow(made.id, **cursor)
            assert (2, False, {"title": "Sea"}) == (
                start["sequence_number"],
                start["reset"],
                start["conversation"]["metadata"],
            )
            assert {"title": "Sea"} == (await phone.next())["metadata"]
            added = await phone.next()
            assert ("one", 2) == (added["items"][0]["content"][0]["text"], added["sequence_number"])
            await client.conversations.items.delete(
                added["items"][0]["id"], conversation_id=made.id
            )
            removed = await phone.until("holdline:conversation.item.deleted")
            assert added["items"][0]["id"] == removed["item_id"]

            # A second `follow` replaces the first one. A cursor of another log starts anew.
            for wrong in ({"starting_after": 0, "event_id": "evt_other"}, {"starting_after": 99}):
                start = await phone.follow(made.id, **wrong)
                assert start["reset"]
                again = [await phone.next() for _ in range(4)]
                assert [0, 1, 2, 3] == [one["sequence_number"] for one in again]
            assert (await phone.follow(made.id))["conversation"]["holdline"]["unread"]
            assert await phone.silent()
            await phone.send("holdline:unfollow", conversation=made.id)
            assert {"type": "holdline:unfollowed", "conversation": made.id} == await phone.next()
            await client.conversations.update(made.id, metadata={"title": "Air"})
            assert await phone.silent()


async def test_a_list_shows_the_conversations_of_its_user_only(site: Site) -> None:
    async with (
        site.sdk("anna") as client,
        site.sdk("ben") as stranger,
        site.device("anna") as phone,
        site.device("ben", other=True) as other,
    ):
        first = await client.conversations.create(metadata={"title": "Sky"})
        start = await phone.follow()
        assert [first.id] == [one["id"] for one in start["conversations"]]
        assert (False, False) == (start["has_more"], start["reset"])
        assert [] == (await other.follow())["conversations"]

        second = await client.conversations.create()
        changed = await phone.next()
        assert ("holdline:list.changed", "created", second.id) == (
            changed["type"],
            changed["change"],
            changed["conversation"]["id"],
        )
        answer = await client.responses.create(input=PROMPT, model="m", conversation=first.id)
        created = await phone.until("holdline:list.changed", change="response.created")
        assert first.id == created["conversation"]["id"]
        ended = await phone.until("holdline:list.changed", change="response.ended")
        state = ended["conversation"]["holdline"]
        assert ([], True) == (state["running"], state["unread"])
        await phone.send(
            "holdline:read", conversation=first.id, sequence_number=state["sequence_number"]
        )
        read = await phone.until("holdline:list.changed", change="read")
        assert not read["conversation"]["holdline"]["unread"]

        await client.conversations.delete(second.id)
        gone = await phone.next()
        assert ("holdline:list.deleted", second.id) == (gone["type"], gone["conversation"])
        await stranger.conversations.create()
        assert "created" == (await other.next())["change"]
        assert await phone.silent()
        assert await other.silent()
        assert answer.id

        # The list resumes after its cursor.
        cursor = {"starting_after": read["sequence_number"], "event_id": read["event_id"]}
        async with site.device("anna", other=True) as desk:
            start = await desk.follow(**cursor)
            assert ([first.id], False) == ([one["id"] for one in start["conversations"]], False)
            assert "holdline:list.deleted" == (await desk.next())["type"]
            start = await desk.follow(starting_after=0, event_id="evt_other")
            assert start["reset"]
            assert await desk.silent()


async def test_a_deleted_conversation_ends_for_all_devices(site: Site) -> None:
    async with site.sdk("anna") as client, site.device("anna", other=True) as phone:
        made = await client.conversations.create()
        await phone.follow(made.id)
        await client.conversations.delete(made.id)
        gone = {"type": "holdline:conversation.deleted", "conversation": made.id}
        assert gone == await phone.next()
        await phone.send("holdline:follow", conversation=made.id)
        error = await phone.next()
        assert ("error", 404, made.id) == (error["type"], error["status"], error["conversation"])
        assert "conversation_not_found" == code_of(error)


async def test_only_those_who_may_see_a_conversation_follow_it(site: Site) -> None:
    async with site.sdk("anna") as client, site.device("ben") as stranger:
        made = await client.conversations.create()
        for kind, more in (("follow", {}), ("read", {"sequence_number": 0})):
            await stranger.send(f"holdline:{kind}", conversation=made.id, **more)
            error = await stranger.next()
            assert 404 == error["status"]
        for message, param in (
            ({"type": "holdline:follow", "conversation": "conv_} 1"}, "conversation"),
            ({"type": "holdline:follow", "starting_after": -2}, "starting_after"),
            ({"type": "holdline:read", "conversation": made.id}, "sequence_number"),
        ):
            await stranger.ws.send_json(message)
            assert param == (await stranger.next())["error"]["param"]
        await client.conversations.update(made.id, metadata={"title": "Sea"})
        assert await stranger.silent()


async def test_a_caller_without_a_subject_has_no_list(shared: Any) -> None:
    async with aiohttp.ClientSession() as http, http.ws_connect(shared.server.ws_url) as ws:
        device = Device(ws)
        await device.send("holdline:follow")
        error = await device.next()
        assert ("subject_required", "conversation") == (code_of(error), error["error"]["param"])


async def test_a_running_answer_is_taken_over_by_an_explicit_resume(site: Site) -> None:
    async with site.sdk("anna") as client, site.device("anna", other=True) as phone:
        made = await client.conversations.create()
        answer = await client.responses.create(
            input="mode=slow pace=0.1 tokens=30", model="m", conversation=made.id, background=True
        )
        await phone.follow(made.id)
        piece = await phone.until("response.output_text.delta")
        assert answer.id == piece["stream_id"]
        await phone.send(
            "holdline:resume",
            response_id=answer.id,
            starting_after=piece["sequence_number"],
            stream_id="mine",
        )
        await phone.until("response.completed", stream_id="mine")
        numbers = [one["sequence_number"] for one in phone.received if "stream_id" in one]
        lanes = [one["stream_id"] for one in phone.received if "stream_id" in one]
        switched = lanes.index("mine")
        assert {answer.id} == set(lanes[:switched])
        assert {"mine"} == set(lanes[switched:])
        assert [*range(piece["sequence_number"] + 1, numbers[-1] + 1)] == numbers[switched:]


async def test_events_survive_lost_notifications_and_a_lost_feed(site: Site, pipe: Pipe) -> None:
    async with site.sdk("anna") as client, site.device("anna", other=True) as phone:
        made = await client.conversations.create()
        await phone.follow(made.id)
        await client.conversations.update(made.id, metadata={"title": "Sea"})
        await phone.until("holdline:conversation.updated")
        # Redis loses the events, and appends others with the same numbers.
        await pipe.call("DEL", NAMES.feed(made.id))
        for title in ("a", "b", "c"):
            await client.conversations.update(made.id, metadata={"title": title})
        again = await phone.until("holdline:following")
        assert again["reset"]
        numbers: list[int] = []
        while len(numbers) < 3:
            with contextlib.suppress(KeyError):
                numbers.append((await phone.next())["sequence_number"])
        assert [0, 1, 2] == numbers


async def test_the_python_client_follows_a_conversation_across_lost_connections(
    site: Site,
) -> None:
    async with (
        site.sdk("anna") as client,
        Proxy(site.server.url) as proxy,
        holdline_client.connect(
            proxy.url.replace("redis", "http"), token=site.token("anna")
        ) as device,
    ):
        made = await client.conversations.create()
        feed = device.follow_conversation(made.id, after=-1)
        mine = device.follow_conversation()
        start = await anext(mine)
        assert [made.id] == [one["id"] for one in start["conversations"]]
        assert ["following", "created"] == [
            (await anext(feed))["type"].rpartition(":")[2].removeprefix("conversation.")
            for _ in range(2)
        ]
        answer = await client.responses.create(
            input="mode=slow pace=0.05 tokens=40", model="m", conversation=made.id, background=True
        )
        text = whole = ""
        numbers: list[int] = []
        statuses: list[str | None] = []
        async for event in feed:
            if event["type"] == "response.output_text.delta":
                text += event["delta"]
                assert answer.id == event["stream_id"]
                if event["sequence_number"] % 10 == 0:
                    proxy.reset()
            elif event["type"].startswith("holdline:conversation."):
                numbers.append(event["sequence_number"])
                statuses.append(event.get("status"))
                if answered := [one for one in event.get("items", ()) if one["role"] != "user"]:
                    whole = answered[0]["content"][0]["text"]
                if event["type"].endswith("response.ended"):
                    break
        assert [1, 2, 3, 4] == numbers
        assert "completed" == statuses[-1]
        # The pieces of an answer that ends while the connection is lost are not sent any more.
        assert whole == "".join(f"c1t{number} " for number in range(40))
        assert whole.startswith(text)
        assert len(text) > 100
        feed.mark_read()
        assert "read" == (await anext(feed))["type"].rpartition(".")[2]
        changes: list[str | None] = []
        while "read" not in changes:
            changes.append((await anext(mine)).get("change"))
        await client.conversations.delete(made.id)
        assert ["holdline:conversation.deleted"] == [one["type"] async for one in feed]
        with pytest.raises(holdline_client.errors.Refused) as refused:
            await anext(device.follow_conversation(made.id))
        assert ("conversation_not_found", 404) == (refused.value.code, refused.value.status)


async def test_the_documented_program_follows_a_conversation(site: Site) -> None:
    (program,) = blocks(CLIENT, "py")
    scope: dict[str, Any] = {}
    exec(f"async def main(client, conversation_id, print):\n{indent(program, '    ')}", scope)
    printed: list[tuple[Any, ...]] = []
    async with (
        site.sdk("anna") as client,
        holdline_client.connect(site.server.url, token=site.token("anna")) as device,
    ):
        made = await client.conversations.create()
        mine = device.follow_conversation()
        await anext(mine)
        main = scope["main"](device, made.id, lambda *values: printed.append(values))
        following = asyncio.create_task(main)
        answer = await client.responses.create(
            input="mode=slow pace=0.05 tokens=20", model="m", conversation=made.id, background=True
        )
        changes: list[str | None] = []
        while "read" not in changes:  # the program has marked the answer as read
            changes.append((await anext(mine)).get("change"))
        await client.conversations.delete(made.id)
        await following
    pieces = [values[1] for values in printed if values[0] == answer.id]
    [[asked], [answered]] = [values[0] for values in printed if values[0] != answer.id]
    assert ("user", "assistant") == (asked["role"], answered["role"])
    assert 0 < len(pieces)
    assert "".join(f"c1t{number} " for number in range(20)) == answered["content"][0]["text"]
    assert answered["content"][0]["text"].startswith("".join(pieces))
