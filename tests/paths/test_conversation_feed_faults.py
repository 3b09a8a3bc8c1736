"""Tests that devices get each event of a conversation once if processes or Redis fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

from jobs.names import conversation_names_of
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.conversation_devices import Device
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.redirecting_proxy import RedirectingProxy
from tests.paths.topologies.relays import in_slot_of, owner_of
from tests.paths.topologies.several import cluster, port_of_master
from tests.system import EXTENSIONS, Server, System, wait_until

pytestmark = pytest.mark.timeout(120)
KIND = "holdline:conversation."
SLOW = "mode=slow pace=0.05 tokens=40 why"
LEASE = {"HOLDLINE_LEASE_SECONDS": "1"}


@asynccontextmanager
async def device(server: Server) -> AsyncIterator[Device]:
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(server.ws_url, protocols=EXTENSIONS) as ws,
    ):
        yield Device(ws)


def events_of(device: Device) -> list[dict[str, Any]]:
    """Returns the events of the conversation that a device has received."""
    return [one for one in device.received if one["type"].startswith(KIND)]


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [one["sequence_number"] for one in events]


def cursor_of(events: list[dict[str, Any]]) -> dict[str, Any]:
    return {"starting_after": numbers(events)[-1], "event_id": events[-1]["event_id"]}


def texts(events: list[dict[str, Any]]) -> list[str]:
    """Returns the texts of all items that events have added."""
    items = [item for event in events for item in event.get("items", ())]
    return ["".join(part["text"] for part in item["content"]) for item in items]


async def ask(client: AsyncOpenAI, id_: str, prompt: str = SLOW) -> str:
    made = await client.responses.create(input=prompt, model="m", conversation=id_, background=True)
    return str(made.id)


async def assert_same_as_api(
    client: AsyncOpenAI, id_: str, events: list[dict[str, Any]], title: str | None = None
) -> None:
    """Checks that events are whole and give the state that the API has."""
    assert [*range(len(events))] == numbers(events)
    items: Any = await client.conversations.items.list(id_, order="asc")
    assert texts(events) == [item.content[0].text for item in items.data]
    metadata = [one["metadata"] for one in events if "metadata" in one]
    found: Any = await client.conversations.retrieve(id_)
    assert found.metadata == metadata[-1]
    assert title == found.metadata.get("title")


async def test_devices_of_a_killed_server_continue_on_the_other_one(system: System) -> None:
    async with FakeModel() as model, AsyncExitStack() as stack:
        dying, other, _ = await asyncio.gather(
            system.server(), system.server(), system.worker(model.url)
        )
        client = await stack.enter_async_context(sdk(other))
        made = await client.conversations.create()
        devices = [await stack.enter_async_context(device(dying)) for _ in range(3)]
        for each in devices:
            await each.follow(made.id, starting_after=-1)
        response = await ask(client, made.id)
        for each in devices:
            await each.until("response.output_text.delta")
        await dying.kill()
        for each in devices:
            before = events_of(each)
            async with device(other) as again:
                start = await again.follow(made.id, **cursor_of(before))
                assert not start["reset"]
                await again.until(f"{KIND}response.ended", response_id=response)
                await assert_same_as_api(client, made.id, [*before, *events_of(again)])


async def test_a_worker_killed_in_mid_answer_ends_it_once_for_all_devices(
    system: System,
) -> None:
    async with FakeModel() as model, AsyncExitStack() as stack:
        server, other = await asyncio.gather(system.server(**LEASE), system.server(**LEASE))
        dying = await system.worker(model.url, **LEASE)
        client = await stack.enter_async_context(sdk(server))
        made = await client.conversations.create()
        devices = [await stack.enter_async_context(device(one)) for one in (server, other)]
        for each in devices:
            await each.follow(made.id, starting_after=-1)
        response = await ask(client, made.id)
        for each in devices:
            await each.until("response.output_text.delta")
        await dying.kill()
        await system.worker(model.url, **LEASE)
        for each in devices:
            await each.until(f"{KIND}response.ended", response_id=response)
            assert await each.silent()
            events = events_of(each)
            assert ["created", "response.created", *["items.added"] * 2, "response.ended"] == [
                one["type"].removeprefix(KIND) for one in events
            ]
            assert [SLOW, "".join(f"c2t{number} " for number in range(40))] == texts(events)
            await assert_same_as_api(client, made.id, events)
            assert 1 == sum(one["type"] == "holdline:restarted" for one in each.received)


@pytest.mark.heavy
async def test_a_feed_continues_while_its_slot_moves_and_its_master_fails(tmp_path: Path) -> None:
    async with (
        cluster(replicas=True) as nodes,
        FakeModel() as model,
        System(nodes.url, tmp_path) as system,
        AsyncExitStack() as stack,
    ):
        system.environ["HOLDLINE_PARTITIONS"] = "9"
        server, other, _ = await asyncio.gather(
            system.server(), system.server(), system.worker(model.url)
        )
        client = await stack.enter_async_context(sdk(server))
        made = await client.conversations.create()
        devices = [await stack.enter_async_context(device(one)) for one in (server, other)]
        for each in devices:
            await each.follow(made.id, starting_after=-1)
        partition = conversation_names_of(made.id).number
        slot, source = in_slot_of(partition), owner_of(partition, nodes)
        target = next(node for node in nodes.masters if node is not source)

        await nodes.begin_move(slot, source, target)
        changing = asyncio.create_task(
            client.conversations.update(made.id, metadata={"title": "moving"})
        )
        await asyncio.sleep(0.3)  # the change waits for the slot, or is made on either master
        await nodes.end_move(slot, source, target)
        await changing
        first = await ask(client, made.id)
        for each in devices:
            await each.until("response.output_text.delta")

        await wait_until(lambda: target.call("WAIT", "1", "1000"), 20)
        await target.kill()
        replica = nodes.replicas[nodes.masters.index(target)]

        async def has_failed_over() -> bool:
            return await port_of_master(slot, replica) == replica.port

        await wait_until(has_failed_over, 30)
        for each in devices:
            await each.until(f"{KIND}response.ended", response_id=first)
        second = await ask(client, made.id, "tokens=3 then")
        await client.conversations.update(made.id, metadata={"title": "moved"})
        for each in devices:
            while numbers(events_of(each))[-1] < 10:
                await each.until_event()
            assert not any(one.get("reset") for one in each.received)
            ended = [one for one in events_of(each) if one["type"] == f"{KIND}response.ended"]
            assert [first, second] == [one["response_id"] for one in ended]
            await assert_same_as_api(client, made.id, events_of(each), "moved")


@pytest.mark.heavy
async def test_after_a_rollback_the_devices_begin_again(tmp_path: Path) -> None:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        RedirectingProxy(master.url) as replication,
        RedirectingProxy(master.url) as proxy,
        System(proxy.url, tmp_path) as system,
        AsyncExitStack() as stack,
    ):
        await replica.replicate(replication.url)
        server, other = await asyncio.gather(system.server(), system.server())
        client = await stack.enter_async_context(sdk(server))
        made = await client.conversations.create()
        devices = [await stack.enter_async_context(device(one)) for one in (server, other)]
        for each in devices:
            await each.follow(made.id, starting_after=-1)
        await client.conversations.update(made.id, metadata={"title": "kept"})
        for each in devices:
            await each.until(f"{KIND}updated")
        await wait_until(lambda: master.call("WAIT", "1", "1000"), 20)
        replication.stop_forwarding()
        for title in ("lost", "lost too"):
            await client.conversations.update(made.id, metadata={"title": title})
            for each in devices:
                await each.until(f"{KIND}updated", metadata={"title": title})
        cursor = cursor_of(events_of(devices[0]))
        await master.kill()
        await replica.call("REPLICAOF", "NO", "ONE")
        proxy.redirect(replica.url)

        # A device that stays connected learns of the loss with the next event or before.
        for title in ("a", "b", "c"):
            await client.conversations.update(made.id, metadata={"title": title})
        for each in devices:
            before = len(each.received)
            await each.until("holdline:following", reset=True)
            while (events := events_of(Device(each.ws, each.received[before:]))) == [] or numbers(
                events
            )[-1] < 4:
                await each.until_event()
            await assert_same_as_api(client, made.id, events, "c")
        # A device that was away has a cursor that no longer fits, although its number exists.
        async with device(other) as again:
            start = await again.follow(made.id, **cursor)
            assert start["reset"]
            while not (events := events_of(again)) or numbers(events)[-1] < 4:
                await again.until_event()
            await assert_same_as_api(client, made.id, events, "c")
