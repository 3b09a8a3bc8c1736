"""Tests conversations that several devices of one user follow over WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

import holdline_client
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.factories import NAMES
from tests.system import Server, System

PROMPT = "tokens=3 why"
ANSWER = "c1t0 c1t1 c1t2 "


@dataclass
class Device:
    """A WebSocket of a user, and the messages that it has received besides its first ones."""

    ws: aiohttp.ClientWebSocketResponse
    received: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send_json({"type": kind, **fields})

    async def next(self) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = await self.ws.receive_json(timeout=20)
            if message["type"] not in ("holdline:welcome", "holdline:queued"):
                self.received.append(message)
                return message

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Receives messages up to the first one of a type that has these fields."""
        while True:
            message = await self.next()
            if message["type"] == kind and fields.items() <= message.items():
                return message

    async def follow(self, conversation: str | None = None, **cursor: Any) -> dict[str, Any]:
        about = {} if conversation is None else {"conversation": conversation}
        await self.send("holdline:follow", **about, **cursor)
        return await self.until("holdline:following")

    async def silent(self) -> bool:
        """Returns True if the server has sent nothing before it answers a ping."""
        await self.send("holdline:ping", id="silent")
        reply = await self.next()
        return str(reply["type"]) == "holdline:pong"


@dataclass
class Site:
    """Servers that require tokens, a worker and a model."""

    server: Server
    other: Server
    model: FakeModel
    signer: str

    def token(self, subject: str) -> str:
        return holdline_client.mint_token(self.signer, tenant="acme", subject=subject)

    def sdk(self, subject: str) -> AsyncOpenAI:
        url = f"{self.server.url}/v1"
        return AsyncOpenAI(base_url=url, api_key=self.token(subject), max_retries=0)

    @asynccontextmanager
    async def device(self, subject: str, *, other: bool = False) -> AsyncIterator[Device]:
        server = self.other if other else self.server
        headers = {"Authorization": f"Bearer {self.token(subject)}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.ws_connect(server.ws_url, protocols=("holdline.v1",)) as ws,
        ):
            yield Device(ws)


@pytest.fixture
async def site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    keys = tmp_path / "keys"
    keys.write_text(b64encode(os.urandom(32)).decode())
    system.environ |= {
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers"),
        "HOLDLINE_ENCRYPTION_KEYS": str(keys),
    }
    signer = (await system.run("signers", "add", "kid")).splitlines()[0]
    async with FakeModel() as model:
        server, other, _ = await asyncio.gather(
            system.server(), system.server(), system.worker(model.url)
        )
        yield Site(server, other, model, signer)


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
            assert [(response, None), "completed"] == [
                (events[0]["response_id"], events[0]["previous_response_id"]),
                events[3]["status"],
            ]
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
