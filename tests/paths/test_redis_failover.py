"""Tests a failover to a replica that lacks its master's last writes."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_chat import mode, ok
from tests.fake_wire import Call, Script, Wire
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import socket_client
from tests.paths.redis_faults.deployment import deploy, wait_for_baseline
from tests.paths.redis_faults.journeys import assert_answers, assert_complete, prompts
from tests.paths.redis_faults.redirecting_proxy import RedirectingProxy
from tests.system import wait_until


async def test_after_a_failover_the_worker_appends_the_events_that_the_replica_lacks(
    tmp_path: Path,
) -> None:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        RedirectingProxy(master.url) as replication,
        RedirectingProxy(master.url) as proxy,
        deploy(replica, tmp_path, workers=2, redis_url=proxy.url) as deployment,
    ):
        await replica.replicate(replication.url)
        async with socket_client(deployment.server) as client:
            answers = [await client.ask(prompt) for prompt in prompts(3)]
            await asyncio.gather(*(answer.wait_for_tokens(10) for answer in answers))
            replication.stop_forwarding()
            had = [len(answer.text.split()) for answer in answers]
            await asyncio.gather(
                *(
                    answer.wait_for_tokens(count + 10)
                    for answer, count in zip(answers, had, strict=True)
                )
            )
            await master.kill()
            await replica.call("REPLICAOF", "NO", "ONE")
            proxy.redirect(replica.url)
            await asyncio.gather(*(answer.wait_for_end() for answer in answers))
            for answer in answers:
                assert_complete(answer, deployment.model)
            await assert_answers(client, deployment.model)
        await wait_for_baseline(deployment)


@mode
async def constant(wire: Wire, script: Script, call: Call) -> None:
    """Sends an answer whose text after the first token is the same in every attempt."""
    script.say = f"{call.number}_" + "x" * script.tokens
    await ok(wire, script, call)


async def test_an_answer_whose_claim_was_lost_restarts_and_is_never_spliced(
    tmp_path: Path,
) -> None:
    async with (
        stores.running(tcp=True) as master,
        stores.running(tcp=True) as replica,
        RedirectingProxy(master.url) as replication,
        RedirectingProxy(master.url) as proxy,
        deploy(replica, tmp_path, redis_url=proxy.url) as deployment,
    ):
        await replica.replicate(replication.url)
        async with socket_client(deployment.server) as client:
            deployment.workers[0].signal(signal.SIGSTOP)
            try:
                answer = await client.ask("mode=constant tokens=50 pace=0.05")
                await wait_until(lambda: answer.events)
                await wait_for_job(replica, answer.id)
                replication.stop_forwarding()
            finally:
                deployment.workers[0].signal(signal.SIGCONT)
            await wait_until(lambda: len(answer.text) > 15)
            await master.kill()
            await replica.call("REPLICAOF", "NO", "ONE")
            proxy.redirect(replica.url)
            await answer.wait_for_end()
            assert "response_rolled_back" == answer.code
            await client.follow_again(answer)
            await answer.wait_for_end()
            assert_complete(answer, deployment.model, calls=2)
        await wait_for_baseline(deployment)


async def wait_for_job(replica: stores.Store, response_id: str) -> None:
    """Waits until the replica has a job."""
    async with Pipe(Redis(replica.url)) as pipe:
        await wait_until(lambda: pipe.call("EXISTS", stores.NAMES.job(response_id)), 10)
