"""Tests that after a backup of Redis is restored, each client and each process gets a clear answer.

The backup is taken under load, and restored while a server and two workers run.
"""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from jobs.cipher import Cipher
from tests.error_codes import own_code
from tests.paths.conftest import sdk
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import Answer, socket_client
from tests.paths.redis_faults.deployment import deploy, wait_for_baseline
from tests.paths.redis_faults.journeys import assert_answers, assert_complete, calls_of
from tests.system import Server, run_module, wait_until
from tests.webhook_receiver import receiving

UNTIL = "mode=until pace=0.05"
CHECK = ("command", "check", "--connect", "--program")


async def refused(server: Server, answer: Answer, **place: Any) -> str:
    """Resumes an answer after its last event, and returns the code of the error that follows."""
    query = {"stream": "true", "starting_after": answer.events[-1]["sequence_number"], **place}
    url = f"{server.url}/v1/responses/{answer.id}"
    async with aiohttp.ClientSession() as http, http.get(url, params=query) as response:
        if response.status != 200:
            return own_code((await response.json())["error"])
        said = [line async for line in response.content if line.startswith(b"data: {")]
    return own_code(json.loads(said[-1][6:])["error"])


async def said_in(client: AsyncOpenAI, conversation: str) -> list[str]:
    """Returns the texts of all items of a conversation, oldest first."""
    items = client.conversations.items.list(conversation, order="asc")
    return ["".join(part.text for part in item.content).strip() async for item in items]  # type: ignore[union-attr]


@pytest.mark.heavy
@pytest.mark.timeout(180)
async def test_a_backup_that_is_restored_under_load_leaves_no_client_in_doubt(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(b64encode(os.urandom(32)).decode())
    async with (
        stores.running() as store,
        receiving() as receiver,
        deploy(
            store,
            tmp_path,
            workers=2,
            HOLDLINE_LEASE_SECONDS="2",
            HOLDLINE_ENCRYPTION_KEYS=str(keys),
            **receiver.environ,
        ) as deployment,
        socket_client(deployment.server) as client,
        sdk(deployment.server) as ask,
    ):
        model, server = deployment.model, deployment.server
        old, deleted = [
            await ask.responses.create(input=f"{name} tokens=5", model="m")
            for name in ("old", "deleted")
        ]
        talk = (await ask.conversations.create()).id
        await ask.responses.create(input="first tokens=2", model="m", conversation=talk)
        before = await said_in(ask, talk)
        ended = await client.ask(f"ended {UNTIL}")
        runs = await client.ask(f"runs {UNTIL}")
        await asyncio.gather(ended.wait_for_tokens(5), runs.wait_for_tokens(5))
        await wait_until(lambda: old.id in [id_ for _, id_ in receiver.told])

        await store.back_up(tmp_path / "holdline.rdb")

        calls_of(model, ended.prompt)[0].closing = True
        await ended.wait_for_end()
        await wait_until(lambda: ended.id in [id_ for _, id_ in receiver.told])
        await ask.responses.delete(deleted.id)
        key = {"Idempotency-Key": "after the backup"}
        lost = await ask.responses.create(input="lost tokens=5", model="m", extra_headers=key)
        await ask.responses.create(input="second tokens=2", model="m", conversation=talk)
        young = await client.ask(f"young {UNTIL}")
        await asyncio.gather(young.wait_for_tokens(5), runs.wait_for_tokens(15))

        await store.restore_backup(tmp_path / "holdline.rdb")

        # A response that runs since before the backup goes on, without another model call.
        had = len(runs.events)
        await wait_until(lambda: len(runs.events) > had, 30)
        calls_of(model, runs.prompt)[0].closing = True
        await runs.wait_for_end(30)
        assert_complete(runs, model)
        # A response that was submitted after the backup is unknown, and its call is closed.
        await young.wait_for_end(30)
        assert "response_gone" == young.code
        [call] = calls_of(model, young.prompt)
        await wait_until(lambda: call.closed_by_client is not None)
        with pytest.raises(openai.NotFoundError):
            await ask.responses.retrieve(lost.id)
        again = await ask.responses.create(input="lost tokens=5", model="m", extra_headers=key)
        assert lost.id != again.id
        assert ["completed", 2] == [again.status, len(calls_of(model, "lost tokens=5"))]
        # A response that has ended since the backup runs again.
        await wait_until(lambda: len(calls_of(model, ended.prompt)) == 2, 30)
        last = ended.events[-1]
        shown = {"item_id": "", "event_type": last["type"]}
        assert "response_rolled_back" == await refused(server, ended, **shown)
        second = calls_of(model, ended.prompt)[1]
        await wait_until(lambda: second.sent)
        second.closing = True
        seen = ended.text
        await client.follow_again(ended)
        await ended.wait_for_end(30)
        assert_complete(ended, model, calls=2)
        assert seen != ended.text
        # The receiver recognizes the second webhook by its id.
        await wait_until(lambda: [id_ for _, id_ in receiver.told].count(ended.id) == 2)
        named = [
            id_
            for id_, told in zip(receiver.ids, receiver.told, strict=True)
            if told[1] == ended.id
        ]
        assert 1 == len(set(named))
        # What had ended before the backup is unchanged, and everything else works as before.
        for response in (old, deleted):
            found = await ask.responses.retrieve(response.id)
            assert response.output_text == found.output_text
        assert 1 == [id_ for _, id_ in receiver.told].count(old.id)
        assert before == await said_in(ask, talk)
        await ask.responses.create(input="third tokens=2", model="m", conversation=talk)
        assert len(before) + 2 == len(await said_in(ask, talk))
        await assert_answers(client, model)
        await wait_for_baseline(deployment)
        # Without the key of the backup, no process starts.
        missing = f"encrypted with the key {Cipher(keys.read_text()).ids[0]}"
        other = tmp_path / "other"
        other.write_text(b64encode(os.urandom(32)).decode())
        for program in ("server", "worker"):
            for path in ("", str(other)):
                environ = {"HOLDLINE_ENCRYPTION_KEYS": path, "OPENAI_API_KEY": "x"}
                environ |= {"REDIS_URL": store.url, "HOLDLINE_MODEL": "m"}
                ran = await asyncio.to_thread(run_module, *CHECK, program, **environ)
                assert (1, 1) == (ran.returncode, len(ran.stderr.splitlines()))
                assert missing in ran.stderr
