"""Tests the console over real sockets: who may open it, what it shows, and what it costs."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from jobs.names import Partition
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from jobs.worker_registry import RunningRecord, WorkerRecord, WorkerRegistry, WorkerState
from runtime.loop import cancel_and_wait
from server.access import api_key_store
from server.api.encoding import JSON
from server.app import SERVER, Server
from server.console import hub as hub_module
from server.console.reader import StateReader
from server.console.state import MAX_ANSWERS, MAX_WORKERS
from server.websocket.console import SocketConsole
from tests.error_codes import own_code
from tests.jobs.proxy import Proxy
from tests.server.auth_helpers import Credentials, bearer
from tests.server.conftest import Serve
from tests.server.factories import Worker
from tests.server.talk import ALL, Talk, connected, sockets_of
from tests.system import EXTENSIONS, wait_until

Client = TestClient[Request, Application]
SECRET = "the-words-of-anna"


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


async def states(talk: Talk, number: int = 1) -> list[dict[str, Any]]:
    """Returns the next states that a console receives."""
    return [await talk.until("holdline:state") for _ in range(number)]


async def shown(talk: Talk, found: Any) -> dict[str, Any]:
    """Waits for a state of which `found` is true, and returns it."""
    async with asyncio.timeout(8):
        while True:
            [state] = await states(talk)
            if found(state):
                return state


async def submit(talk: Talk, text: str = SECRET) -> str:
    await talk.say("response.create", input=text)
    created = await talk.until("response.created")
    return str(created["response"]["id"])


async def refused(client: Client, credential: str) -> str:
    async with connected(client) as talk:
        await talk.say("holdline:auth", token=credential)
        await talk.until("holdline:authenticated")
        await talk.say("holdline:console")
        event = await talk.until("error", "holdline:state")
        return "" if event["type"] == "holdline:state" else own_code(event["error"])


# Who may open it


async def test_only_operators_may_open_the_console(serve: Serve, credentials: Credentials) -> None:
    from admin.signers import new_pair
    from holdline_client import mint_token

    private, public = new_pair("ops", "EdDSA", None, operator=True)
    credentials.list_signers(credentials.public, public)
    keys = {
        "operator": credentials.key("ops", "operator"),
        "support": credentials.key("acme", "create", "read", "cancel", "admin"),
        "contents alone": credentials.key("ops", "contents"),
        "a user who says operator": credentials.token(scopes=["create", "operator", "contents"]),
        "an operator's token": mint_token(
            private, subject="olga", tenant="ops", scopes=["operator"]
        ),
        "an operator's token without the scope": mint_token(private, subject="olga", tenant="ops"),
    }
    client = await serve(**credentials.settings)
    found = {name: await refused(client, key) for name, key in keys.items()}
    denied = "insufficient_scope"
    assert found == {
        "operator": "",
        "support": denied,
        "contents alone": denied,
        "a user who says operator": denied,
        "an operator's token": "",
        "an operator's token without the scope": denied,
    }


async def test_the_header_that_a_proxy_adds_opens_the_console_without_a_message(
    serve: Serve, credentials: Credentials
) -> None:
    key = credentials.key("ops", "operator")
    client = await serve(**credentials.settings)
    async with client.ws_connect(ALL, protocols=EXTENSIONS, headers=bearer(key)) as ws:
        talk = Talk(ws)
        await talk.say("holdline:console")
        await states(talk)


async def test_a_revoked_key_loses_the_console(
    serve: Serve, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.watched_file.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(api_key_store, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr("server.websocket.auth.LOOK_SECONDS", 0.05)
    key = credentials.key("ops", "operator")
    client = await serve(**credentials.settings)
    async with connected(client) as talk:
        await talk.say("holdline:auth", token=key)
        await talk.say("holdline:console")
        await states(talk)
        credentials.revoke(key)
        assert 4401 == await talk.closed()
    await wait_until(lambda: len(client.app[SERVER].services.consoles) == 0)


async def test_a_key_that_loses_the_scope_gets_no_more_states(
    serve: Serve, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = credentials.key("ops", "operator")
    client = await serve(**credentials.settings)
    async with connected(client) as talk:
        await talk.say("holdline:auth", token=key)
        await talk.say("holdline:console")
        await states(talk)
        [socket] = sockets_of(client.app[SERVER])
        who = socket._auth.who
        monkeypatch.setattr(socket._auth, "_who", who.__class__(who.tenant, scopes=frozenset()))
        assert "insufficient_scope" == (await talk.error())[1]
        assert 0 == len(client.app[SERVER].services.consoles)


# What it shows


async def test_a_change_is_shown_within_a_second(client: Client, worker: Worker) -> None:
    async with connected(client) as console, connected(client) as user:
        await console.say("holdline:console")
        [first] = await states(console)
        assert (0, 0) == (first["counts"]["waiting"], first["counts"]["running"])
        assert ["problem"] == [alert["level"] for alert in first["alerts"]]
        id_ = await submit(user)
        begun = time.monotonic()
        state = await shown(console, lambda state: state["counts"]["waiting"] == 1)
        assert time.monotonic() - begun < 1
        assert [("", 1, {"default": 1})] == [
            (m["model"], m["waiting"], m["tiers"]) for m in state["models"]
        ]
        assert [("public", 1)] == [(t["tenant"], t["unfinished"]) for t in state["tenants"]]
        answer = await worker.take()
        state = await shown(console, lambda state: state["counts"]["running"] == 1)
        assert [(id_, 1, False)] == [
            (a["response_id"], a["attempt"], a["lost"]) for a in state["answers"]
        ]
        assert 1 == state["counts"]["started"]
        await answer.complete()
        state = await shown(console, lambda state: state["counts"]["running"] == 0)
        assert [] == state["answers"]


async def test_no_message_of_the_console_contains_a_prompt_or_an_answer(
    client: Client, worker: Worker
) -> None:
    async with connected(client) as console, connected(client) as user:
        id_ = await submit(user)
        answer = await worker.take()
        await console.say("holdline:console", response_id=id_)
        await answer.say("a-word-of-the-model")
        await console.until("holdline:timeline")
        await answer.complete()
        await shown(console, lambda state: state["counts"]["running"] == 0)
        await console.until("holdline:timeline")
        said = json.dumps(console.events)
        assert id_ in said
        assert SECRET not in said
        assert "a-word-of-the-model" not in said


def record(number: int) -> WorkerRecord:
    answers = tuple(RunningRecord(f"resp_000{number:04}{n:028}", "m", 1, 5_000) for n in range(10))
    state = WorkerState.PAUSED if number == 999 else WorkerState.READY
    return WorkerRecord("h", number, "1", 60_000, 10, (), state, "", len(answers), answers)


async def test_a_thousand_workers_and_ten_thousand_answers_are_counted_and_listed_in_part(
    client: Client, redis: Redis
) -> None:
    async with Pipe(redis) as pipe:
        registry = WorkerRegistry(pipe, 60_000)
        records = [record(number) for number in range(1_000)]
        for number, one in enumerate(records):
            await registry.register(f"{number:016}", one)
        seconds, _ = await pipe.call("TIME")
        until, names = (int(seconds) + 600) * 1000, Partition(0)
        for number, one in enumerate(records):
            pairs = [part for a in one.running for part in (until + number, a.response_id)]
            await pipe.call("ZADD", names.leases, *pairs)
        await pipe.call("ZADD", names.leases, 1, "resp_000" + "f" * 32)
        await pipe.call("PEXPIRE", names.leases, 600_000)
        first = names.job(records[0].running[0].response_id)
        await pipe.call("HSET", first, "attempt", 1, "submitted", until - 900_000)
        await pipe.call("PEXPIRE", first, 600_000)
    async with connected(client) as console:
        begun = time.monotonic()
        await console.say("holdline:console")
        [state] = await states(console)
        assert time.monotonic() - begun < 3
    assert {"total": 1_000, "ready": 999, "draining": 0, "paused": 1, "slots": 10_000} == (
        state["worker_counts"]
    )
    assert (10_001, 1) == (state["counts"]["running"], state["counts"]["lost"])
    assert MAX_WORKERS == len(state["workers"])
    assert MAX_ANSWERS == len(state["answers"])
    assert ("paused", True) == (state["workers"][0]["state"], state["answers"][0]["lost"])
    answer = state["answers"][1]
    assert ("h", 1, "m") == (answer["host"], answer["attempt"], answer["model"])
    assert len(json.dumps(state)) < 150_000


async def test_the_console_says_that_redis_is_unavailable_and_keeps_the_last_state(
    serve: Serve, redis_url: str
) -> None:
    async with Proxy(redis_url) as proxy:
        client = await serve(url=proxy.url)
        async with connected(client) as user, connected(client) as console:
            await submit(user)
            await console.say("holdline:console")
            before = await shown(console, lambda state: state["counts"]["waiting"] == 1)
            proxy.stop_forwarding()
            async with asyncio.timeout(15):
                while (state := (await states(console))[0])["redis_available"]:
                    pass
            assert (1, before["read_at"]) <= (state["counts"]["waiting"], state["read_at"])
            proxy.forward_again()
            state = await shown(console, lambda state: state["redis_available"])
            assert state["read_at"] > before["read_at"]


# What it costs


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times at which a server has read the state from Redis."""
    found: list[float] = []
    read = StateReader._read

    async def counted(self: StateReader) -> Any:
        found.append(time.monotonic())
        return await read(self)

    monkeypatch.setattr(StateReader, "_read", counted)
    return found


async def test_one_reader_serves_all_consoles_and_rests_without_one(
    client: Client, server: Server, reads: list[float]
) -> None:
    await asyncio.sleep(0.8)  # longer than the pause between two reads
    assert [] == reads
    async with connected(client) as one, connected(client) as two, connected(client) as three:
        for talk in (one, two, three):
            await talk.say("holdline:console")
        await asyncio.gather(*(states(talk, 4) for talk in (one, two, three)))
        assert len(reads) <= 8
        least = min(later - earlier for earlier, later in pairwise(reads))
        assert least > 0.4, "the rate of the reads is bounded"
    await wait_until(lambda: len(server.services.consoles) == 0)
    read = len(reads)
    await asyncio.sleep(0.8)  # longer than the pause between two reads
    assert len(reads) <= read + 1


async def test_messages_of_one_console_do_not_flood_the_others(client: Client) -> None:
    async def flood(talk: Talk) -> None:
        while True:
            await talk.say("holdline:console")
            await asyncio.sleep(0.02)  # fewer messages than a socket may send

    async with connected(client) as one, connected(client) as other:
        await other.say("holdline:console")
        await states(other)
        flooding = asyncio.create_task(flood(one))
        begun, seen = time.monotonic(), 0
        while time.monotonic() - begun < 1:
            seen += len(await states(other))
        await cancel_and_wait(flooding)
        assert seen <= 2 + (time.monotonic() - begun) / hub_module.MIN_PAUSE_SECONDS


class SlowSocket:
    """A socket whose client stops reading when the test says so."""

    def __init__(self) -> None:
        self.writable = True
        self.written: list[bytes] = []
        self.said: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def say(self, message: dict[str, Any]) -> None:
        self.said.append(message)


async def test_a_slow_console_misses_states_and_the_others_get_them(server: Server) -> None:
    sockets = [SlowSocket(), SlowSocket()]
    hub = server.services.consoles
    consoles = [SocketConsole(socket, hub, JSON, lambda _: None) for socket in sockets]
    slow, fast = sockets
    slow.writable = False
    for console in consoles:
        console.open(None)
    await wait_until(lambda: len(fast.written) == 2)
    assert [] == slow.written
    slow.writable = True
    await wait_until(lambda: slow.written)
    assert slow.written[0] is fast.written[-1], "a state is encoded once for all consoles"
    for console in consoles:
        console.leave()


async def test_a_server_refuses_more_consoles_than_its_limit(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MAX_CONSOLES", 1)
    async with connected(client) as one, connected(client) as two:
        await one.say("holdline:console")
        await states(one)
        await two.say("holdline:console")
        assert (429, "too_many") == (await two.error())[:2]
        await one.say("holdline:console", response_id="resp_000" + "a" * 32)
        await states(one)
