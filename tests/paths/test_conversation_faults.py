"""Tests that no item of a conversation is lost or duplicated if processes or Redis fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from jobs.conversation_feed import FeedStore
from jobs.conversations import ConversationStore
from jobs.record import SharedSettings
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.scripts import SCRIPTS
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.holding_proxy import HoldingProxy, LaggingReplication
from tests.paths.redis_faults.redirecting_proxy import RedirectingProxy
from tests.paths.topologies.several import cluster
from tests.system import Server, System, wait_until

pytestmark = pytest.mark.timeout(120)
APPEND = SCRIPTS["append_conversation"].sha
# The replicated command that an append ends in.
APPENDED = b"RPUSH\r\n$59\r\nholdline:{0}:items:conv_"
PROMPT = "tokens=3 why"


async def texts(pipe: Pipe, id_: str) -> list[str]:
    """Returns the texts in a conversation, read from Redis without settling the conversation."""
    found = await ConversationStore(pipe, SharedSettings()).read(id_, stop=-1)
    return ["".join(part["text"] for part in item["content"]) for _, item in found.items]


async def ask(client: AsyncOpenAI, id_: str, prompt: str = PROMPT) -> Any:
    return await client.responses.create(input=prompt, model="m", conversation=id_, background=True)


async def ended(server: Server, id_: str) -> Any:
    """Waits until a response has ended and returns it."""
    async with sdk(server) as client:

        async def found() -> Any:
            response = await client.responses.retrieve(id_)
            return response if response.status == "completed" else None

        return await wait_until(found, 30)


async def test_a_server_that_dies_between_acceptance_and_append_loses_no_input(
    system: System, pipe: Pipe
) -> None:
    async with FakeModel() as model, HoldingProxy(system.redis_url, APPEND) as proxy:
        dying = await system.server(REDIS_URL=proxy.url)
        async with sdk(dying) as client:
            made = await client.conversations.create()
            asking = asyncio.create_task(ask(client, made.id))
            await asyncio.wait_for(proxy.reached.wait(), 20)
            assert [] == await texts(pipe, made.id)
            await dying.kill()
            await asyncio.wait([asking])
            assert asking.exception() is not None
        # No server reads the conversation, so a worker appends the input.
        await system.worker(model.url)
        expected = [PROMPT, "c1t0 c1t1 c1t2 "]

        async def appended() -> bool:
            return expected == await texts(pipe, made.id)

        await wait_until(appended, 30)
        assert 1 == len(model.calls)
        # A device can tell the prompt from the answer.
        events = (await FeedStore(pipe, SharedSettings()).read(made.id, 0)).events
        assert ["input", "output"] == [one.values[3] for one in events if one.kind == "items"]


@pytest.mark.parametrize("by", [pytest.param("server", marks=pytest.mark.heavy), "worker"])
async def test_a_worker_that_dies_between_the_end_and_the_append_loses_no_output(
    system: System, pipe: Pipe, by: str
) -> None:
    async with FakeModel() as model, HoldingProxy(system.redis_url, APPEND) as proxy:
        server = await system.server()
        dying = await system.worker(model.url, REDIS_URL=proxy.url)
        async with sdk(server) as client:
            made = await client.conversations.create()
            response = await ask(client, made.id)
            await asyncio.wait_for(proxy.reached.wait(), 20)
            answer = await ended(server, response.id)
            assert [PROMPT] == await texts(pipe, made.id)
            await dying.kill()
            expected = [PROMPT, answer.output_text]
            if by == "server":
                # A client that has seen the end finds the output at once, without any worker.
                items: Any = await client.conversations.items.list(made.id, order="asc")
                assert expected == [item.content[0].text for item in items.data]
                assert expected == await texts(pipe, made.id)
            await system.worker(model.url)

            async def appended() -> bool:
                return expected == await texts(pipe, made.id)

            await wait_until(appended, 30)
            await ended(server, (await ask(client, made.id, "tokens=1 then")).id)
            assert [*expected, "tokens=1 then"] == [
                message["content"] if isinstance(message["content"], str) else PROMPT
                for message in model.calls[-1].body["messages"]
            ]


@pytest.mark.heavy
@pytest.mark.parametrize(("lost", "appends"), [("input", 1), ("output", 2)])
async def test_a_failover_to_a_replica_without_the_append_loses_nothing(
    tmp_path: Path, lost: str, appends: int
) -> None:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        LaggingReplication(master.url, APPENDED, appends) as replication,
        RedirectingProxy(master.url) as proxy,
        FakeModel() as model,
        System(proxy.url, tmp_path) as system,
    ):
        await replica.call("REPLICAOF", "127.0.0.1", replication.url.rpartition(":")[2])
        async with Pipe(Redis(replica.url)) as pipe:

            async def linked() -> bool:
                return b"master_link_status:up" in await pipe.call("INFO", "replication")

            await wait_until(linked)
            server, _ = await asyncio.gather(system.server(), system.worker(model.url))
            async with sdk(server) as client:
                made = await client.conversations.create()
                response = await ask(client, made.id, "mode=slow tokens=20 pace=0.05 why")
                await asyncio.wait_for(replication.reached.wait(), 30)
                await master.kill()
                await replica.call("REPLICAOF", "NO", "ONE")
                assert len(await texts(pipe, made.id)) == appends - 1, lost
                proxy.redirect(replica.url)
                answer = await ended(server, response.id)
                expected = ["mode=slow tokens=20 pace=0.05 why", answer.output_text]

                async def appended() -> bool:
                    return expected == await texts(pipe, made.id)

                await wait_until(appended, 30)


@pytest.mark.heavy
async def test_a_conversation_and_its_responses_may_be_on_different_masters(
    tmp_path: Path,
) -> None:
    async with (
        cluster() as nodes,
        FakeModel() as model,
        System(nodes.url, tmp_path) as system,
    ):
        system.environ["HOLDLINE_PARTITIONS"] = "9"
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        async with sdk(server) as client:
            made = await client.conversations.create()
            answers = []
            for number in range(6):
                prompt = f"tokens=1 number={number}"
                answer = await client.responses.create(
                    input=prompt, model="m", conversation=made.id
                )
                answers += [prompt, answer.output_text]
            items: Any = await client.conversations.items.list(made.id, order="asc")
            assert answers == [item.content[0].text for item in items.data]
            assert 12 - 1 == len(model.calls[-1].body["messages"])
            await client.conversations.delete(made.id)
        exported = await system.run("subject", "export", "public")
        assert 6 == len(exported.splitlines())
