"""Redis that dies, forgets, fills up, stops or falls deaf: what was promised while it did so."""

from __future__ import annotations

import asyncio
import hashlib
import re
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import Call, FakeModel, Script, mode, ok
from tests.fake_model import _Wire as Wire
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.detour import Detour
from tests.paths.redis_faults.screen import TERMINAL, Answer, Screen, screen, streamed
from tests.paths.redis_faults.site import back_to_baseline, cpu_seconds, site
from tests.system import Process, Server, System, wait_until

pytestmark = pytest.mark.timeout(60)

# Three seconds at a human pace; a count makes each prompt one of its own.
SLOW = "mode=slow tokens=60 pace=0.05"


def prompts(count: int, script: str = SLOW) -> list[str]:
    return [f"nr={number} {script}" for number in range(count)]


def assert_whole(answer: Answer, model: FakeModel, *, calls: int = 1) -> None:
    """It came without a gap or a repeat, as the last of so many calls said it, and proved."""
    assert None is answer.problem
    assert list(range(len(answer.events))) == [e["sequence_number"] for e in answer.events]
    assert [answer.events[-1]] == [e for e in answer.events if e["type"] in TERMINAL]
    response = answer.events[-1]["response"]
    assert "completed" == response["status"]
    asked = calls_of(model, answer.prompt)
    assert calls == len(asked)
    assert asked[-1].sent == answer.text
    digest = hashlib.sha256(answer.text.encode()).hexdigest()
    assert (digest, len(answer.text.encode())) == (
        response["holdline"]["sha256"],
        response["holdline"]["bytes"],
    )


async def can_answer(shown: Screen, model: FakeModel) -> None:
    """The socket that was open through it all takes a new prompt."""
    answer = await shown.ask("anew")
    await answer.ends()
    assert_whole(answer, model)


def calls_of(model: FakeModel, prompt: str) -> list[Call]:
    return [call for call in model.calls if call.prompt == prompt]


# Killed


async def test_answers_outlive_a_redis_that_is_killed_and_comes_back_with_its_file(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, site(store, tmp_path, workers=2) as here:
        one, two, three = prompts(3)
        async with screen(here.server) as shown, streamed(here.server, three) as stream:
            answers = [await shown.ask(one), await shown.ask(two), stream]
            await asyncio.gather(*(answer.says(10) for answer in answers))
            await store.kill()
            await shown.told_degraded(True)
            await asyncio.sleep(1.5)  # longer than a lease
            await store.start()
            await shown.told_degraded(False)
            await asyncio.gather(*(answer.ends() for answer in answers))
            for answer in answers:
                assert_whole(answer, here.model)
            await wait_until(lambda: stream.over)
            await can_answer(shown, here.model)
            assert [True, False] == [degraded for _, degraded in shown.degraded]
        await back_to_baseline(here)


async def test_a_redis_that_comes_back_empty_is_said_to_have_lost_what_ran_and_what_waited(
    tmp_path: Path,
) -> None:
    async with (
        stores.running() as store,
        site(store, tmp_path, HOLDLINE_CONCURRENCY="1") as here,
    ):
        one, two = prompts(2, "mode=slow tokens=400 pace=0.05")
        async with screen(here.server) as shown:
            runs = await shown.ask(one)
            await runs.says(5)
            waits = await shown.ask(two)
            await wait_until(lambda: waits.events)
            await store.kill()
            store.forget()
            await store.start()
            await asyncio.gather(runs.ends(6), waits.ends(6))
            assert ["response_gone"] * 2 == [runs.code, waits.code]
            [call] = calls_of(here.model, one)
            await wait_until(lambda: call.closed_by_client is not None)
            assert [] == calls_of(here.model, two)
            await can_answer(shown, here.model)
        await back_to_baseline(here)


# Emptied and cut short


async def test_a_flush_is_said_to_have_lost_what_ran_and_what_waited(tmp_path: Path) -> None:
    async with (
        stores.running() as store,
        site(store, tmp_path, HOLDLINE_CONCURRENCY="1") as here,
    ):
        one, two = prompts(2, "mode=slow tokens=400 pace=0.05")
        async with screen(here.server) as shown:
            runs = await shown.ask(one)
            await runs.says(5)
            waits = await shown.ask(two)
            await wait_until(lambda: waits.events)
            async with streamed(here.server, "a third") as stream:
                await wait_until(lambda: stream.events)
                await store.call("FLUSHALL")
                await asyncio.gather(runs.ends(6), waits.ends(6), stream.ends(6))
            assert ["response_gone"] * 3 == [runs.code, waits.code, stream.code]
            assert not stream.over
            [call] = calls_of(here.model, one)
            await wait_until(lambda: call.closed_by_client is not None)
            assert [] == calls_of(here.model, two)
            await can_answer(shown, here.model)
            assert [] == shown.degraded
        await back_to_baseline(here)


async def test_a_tail_that_redis_lost_is_written_again_by_the_worker_that_has_it(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, site(store, tmp_path, workers=2) as here:
        async with screen(here.server) as shown:
            answers = [await shown.ask(prompt) for prompt in prompts(3)]
            await asyncio.gather(*(answer.says(25) for answer in answers))
            await store.kill()
            store.cut(4000)
            await store.start()
            await asyncio.gather(*(answer.ends() for answer in answers))
            for answer in answers:
                assert_whole(answer, here.model)
            await can_answer(shown, here.model)
        await back_to_baseline(here)


async def test_a_tail_that_nobody_has_any_more_is_said_to_be_lost(tmp_path: Path) -> None:
    async with stores.running() as store, site(store, tmp_path) as here:
        async with screen(here.server) as shown:
            answer = await shown.ask(prompts(1)[0])
            await answer.says(25)
            await asyncio.gather(store.kill(), here.workers[0].kill())
            store.cut(2000)
            await store.start()
            had = len(answer.events)
            here.workers.append(await here.system.worker(here.model.url))
            await answer.ends()
            assert "response_rolled_back" == answer.code
            assert had == len(answer.events)  # and nothing wrong came before it
            await shown.follow_again(answer)
            await answer.ends()
            assert_whole(answer, here.model, calls=2)
        await back_to_baseline(here)


# Full


async def test_answers_go_on_by_themselves_when_a_full_redis_has_room_again(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, site(store, tmp_path, workers=2) as here:
        one, two = prompts(2)
        async with screen(here.server) as shown, streamed(here.server, two) as stream:
            answers = [await shown.ask(one), stream]
            await asyncio.gather(*(answer.says(10) for answer in answers))
            await store.call("CONFIG", "SET", "maxmemory", 1)
            full = asyncio.create_task(asyncio.sleep(2))
            assert (503, "5") == await refused(here.server)
            meanwhile = await shown.ask("meanwhile")
            await meanwhile.ends()
            assert "storage_full" == meanwhile.code
            await full
            said = [answer.text for answer in answers]
            await store.call("CONFIG", "SET", "maxmemory", 0)
            await asyncio.gather(*(answer.ends() for answer in answers))
            for answer, before in zip(answers, said, strict=True):
                assert_whole(answer, here.model)
                assert len(before) < len(answer.text)
            await can_answer(shown, here.model)
        await back_to_baseline(here)


async def refused(server: Server) -> tuple[int, str | None]:
    """Status and Retry-After of a prompt that cannot be taken."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{server.url}/v1/responses", json={"input": "x", "model": "m"}) as response,
    ):
        return response.status, response.headers.get("Retry-After")


# Replaced


async def test_a_replica_that_lacks_the_tail_takes_over_and_is_told_the_rest(
    tmp_path: Path,
) -> None:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        Detour(master.url) as lag,
        Detour(master.url) as road,
        site(replica, tmp_path, workers=2, redis_url=road.url) as here,
    ):
        await replica.call("REPLICAOF", "127.0.0.1", lag.url.rpartition(":")[2])
        await in_step(replica)
        async with screen(here.server) as shown:
            answers = [await shown.ask(prompt) for prompt in prompts(3)]
            await asyncio.gather(*(answer.says(10) for answer in answers))
            lag.stop_forwarding()
            had = [len(answer.text.split()) for answer in answers]
            await asyncio.gather(
                *(answer.says(count + 10) for answer, count in zip(answers, had, strict=True))
            )
            await master.kill()
            await replica.call("REPLICAOF", "NO", "ONE")
            road.lead_to(replica.url)
            await asyncio.gather(*(answer.ends() for answer in answers))
            for answer in answers:
                assert_whole(answer, here.model)
            await can_answer(shown, here.model)
        await back_to_baseline(here)


@mode
async def mumble(wire: Wire, script: Script, call: Call) -> None:
    """After its first token every answer says the same."""
    script.say = f"{call.number}_" + "x" * script.tokens
    await ok(wire, script, call)


async def test_an_answer_whose_claim_was_lost_is_begun_anew_and_never_spliced(
    tmp_path: Path,
) -> None:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        Detour(master.url) as lag,
        Detour(master.url) as road,
        site(replica, tmp_path, redis_url=road.url) as here,
    ):
        await replica.call("REPLICAOF", "127.0.0.1", lag.url.rpartition(":")[2])
        await in_step(replica)
        async with screen(here.server) as shown:
            here.workers[0].signal(signal.SIGSTOP)
            try:
                answer = await shown.ask("mode=mumble tokens=50 pace=0.05")
                await wait_until(lambda: answer.events)
                await has_job(replica, answer.id)
                lag.stop_forwarding()
            finally:
                here.workers[0].signal(signal.SIGCONT)
            await wait_until(lambda: len(answer.text) > 15)
            await master.kill()
            await replica.call("REPLICAOF", "NO", "ONE")
            road.lead_to(replica.url)
            await answer.ends()
            assert "response_rolled_back" == answer.code
            await shown.follow_again(answer)
            await answer.ends()
            assert_whole(answer, here.model, calls=2)
        await back_to_baseline(here)


async def has_job(replica: stores.Store, response_id: str) -> None:
    """Returns when the replica knows a job."""
    async with asyncio.timeout(10), Pipe(Redis(replica.url)) as pipe:
        while not await pipe.call("EXISTS", stores.NAMES.job(response_id)):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)


async def in_step(replica: stores.Store) -> None:
    """Returns when the replica has what its master had."""
    async with asyncio.timeout(10), Pipe(Redis(replica.url)) as pipe:
        while b"master_link_status:up" not in await pipe.call("INFO", "replication"):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.02)


# Stopped, gone


async def test_a_redis_that_stops_for_12_seconds_costs_only_time(tmp_path: Path) -> None:
    async with stores.running() as store, site(store, tmp_path, workers=2) as here:
        one, two = prompts(2)
        async with screen(here.server) as shown, streamed(here.server, two) as stream:
            answers = [await shown.ask(one), stream]
            await asyncio.gather(*(answer.says(10) for answer in answers))
            store.signal(signal.SIGSTOP)
            stopped = time.monotonic()
            try:
                await asyncio.sleep(12)
            finally:
                store.signal(signal.SIGCONT)
            assert [True] == [degraded for _, degraded in shown.degraded]
            # The bell is deaf after 5 s without its probe, which is looked at once a second.
            assert shown.degraded[0][0] - stopped < 6.5
            await shown.told_degraded(False)
            await asyncio.gather(*(answer.ends() for answer in answers))
            for answer in answers:
                assert_whole(answer, here.model)
            await can_answer(shown, here.model)
            assert [True, False] == [degraded for _, degraded in shown.degraded]
        await back_to_baseline(here)


@pytest.mark.timeout(180)
async def test_while_redis_is_gone_for_a_minute_nobody_spins_and_nobody_is_dropped(
    tmp_path: Path,
) -> None:
    away = 60.0
    async with stores.running() as store, site(store, tmp_path, workers=2) as here:
        [prompt] = prompts(1, "mode=slow tokens=130 pace=0.5")
        async with screen(here.server) as shown:
            answer = await shown.ask(prompt)
            await answer.says(3)
            await store.kill()
            before = [cpu_seconds(process) for process in here.processes]
            await asyncio.sleep(away)
            spent = [cpu_seconds(process) for process in here.processes]
            shares = [(now - then) / away for now, then in zip(spent, before, strict=True)]
            print("CPU of server, worker, worker:", shares)
            assert max(shares) < 0.05
            await store.start()
            await shown.told_degraded(False)
            await answer.ends(30)
            assert_whole(answer, here.model)
            await can_answer(shown, here.model)
        await back_to_baseline(here)


# Scripts and settings


async def test_scripts_that_are_flushed_again_and_again_are_missed_by_nobody(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, site(store, tmp_path) as here:
        async with screen(here.server) as shown, Pipe(Redis(store.url)) as pipe:
            answers = []
            for prompt in prompts(20, "mode=slow tokens=40 pace=0.05"):
                await pipe.call("SCRIPT", "FLUSH")
                answers.append(await shown.ask(prompt))
            while not all(answer.ended or answer.problem for answer in answers):
                await pipe.call("SCRIPT", "FLUSH")
                await asyncio.sleep(0.05)
            for answer in answers:
                assert_whole(answer, here.model)
        await back_to_baseline(here)


async def test_nobody_starts_on_a_redis_that_may_evict_answers(tmp_path: Path) -> None:
    async with (
        stores.running("--maxmemory-policy", "allkeys-lru") as store,
        System(store.url, tmp_path) as system,
    ):
        started = [
            system._start(Process, "server", {"HOLDLINE_PORT": "0"}),
            system._start(Process, "worker", {}),
        ]
        assert [1, 1] == [await process.wait() for process in started]
        for process in started:
            assert "maxmemory-policy is allkeys-lru" in process.said
            assert "CONFIG SET maxmemory-policy noeviction" in process.said


# The bell


async def test_a_bell_that_is_killed_every_100_ms_costs_50_answers_nothing(
    tmp_path: Path,
) -> None:
    async with stores.running() as store, site(store, tmp_path) as here:
        async with (
            screen(here.server) as shown,
            screen(here.server) as other,
            streamed(here.server, SLOW) as stream,
            Pipe(Redis(store.url)) as pipe,
        ):
            answers = [
                await screened.ask(prompt)
                for prompt, screened in zip(prompts(50), [shown, other] * 25, strict=True)
            ]
            answers.append(stream)
            killed = 0
            while not all(answer.ended or answer.problem for answer in answers):
                killed += await pipe.call("CLIENT", "KILL", "TYPE", "pubsub")
                await asyncio.sleep(0.1)
            assert killed > 20
            for answer in answers:
                assert_whole(answer, here.model)
            await can_answer(shown, here.model)
        await back_to_baseline(here)


async def test_a_bell_that_overflows_with_each_last_event_loses_none_of_them(
    tmp_path: Path,
) -> None:
    # The last events of such an answer hold its text four times: more than the bell's buffer,
    # and less than what it leaves to a read of the log.
    options = ("--client-output-buffer-limit", "pubsub 4096 0 0")
    async with stores.running(*options) as store, site(store, tmp_path) as here:
        async with screen(here.server) as shown:
            # Two at a time: of those that end together one cut takes several.
            answers, asked = [], prompts(40, "mode=fast tokens=800")
            for at in range(0, 40, 2):
                some = [await shown.ask(prompt) for prompt in asked[at : at + 2]]
                await asyncio.gather(*(answer.ends(20) for answer in some))
                answers += some
            for answer in answers:
                assert_whole(answer, here.model)
            stats = (await store.call("INFO", "stats")).decode()
            [cut] = re.findall(r"client_output_buffer_limit_disconnections:(\d+)", stats)
            print(cut, "cuts")
            assert int(cut) >= 10
        await back_to_baseline(here)


async def test_a_bell_that_is_deaf_on_a_living_connection_is_found_by_its_probe(
    tmp_path: Path,
) -> None:
    async with (
        stores.running(tcp=True) as store,
        Detour(store.url) as road,
        site(store, tmp_path, redis_url=road.url) as here,
    ):
        one, two = prompts(2, "mode=slow tokens=60 pace=0.03")
        async with screen(here.server) as shown, streamed(here.server, two) as stream:
            answers = [await shown.ask(one), stream]
            await asyncio.gather(*(answer.says(10) for answer in answers))
            road.swallow_bells()
            had = [len(answer.events) for answer in answers]
            await wait_until(lambda: not any(call.ended is None for call in here.model.calls))
            await asyncio.gather(*(answer.ends(8) for answer in answers))
            for answer, before in zip(answers, had, strict=True):
                assert_whole(answer, here.model)
                assert before < len(answer.events)
            await can_answer(shown, here.model)
        await back_to_baseline(here)
