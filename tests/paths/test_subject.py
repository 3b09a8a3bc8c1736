"""Tests the export and deletion of all responses of a single end user."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, NotFoundError

import holdline_client
from admin import arguments, subject
from jobs.cipher import Cipher
from jobs.errors import HoldlineError
from jobs.ids import new_response_id
from jobs.queue import Queue
from jobs.record import SharedSettings
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.dump import dump
from tests.jobs.factories import NAMES, a_job, claimed, opening
from tests.system import Server, System, wait_until

SLOW = "mode=slow pace=0.1 tokens=600"
# The first owner's name needs escaping. The others are a prefix of that name, another subject, and
# the same subject in another tenant.
ANNA = ("acme", "anna@x/1")
OTHERS = [("acme", "anna"), ("acme", "ben"), ("bolt", "anna@x/1")]


@dataclass
class Site:
    """A server that requires tokens, a worker and a model."""

    system: System
    server: Server
    model: FakeModel
    signer: str

    def sdk(self, tenant: str, subject: str) -> AsyncOpenAI:
        token = holdline_client.mint_token(self.signer, tenant=tenant, subject=subject)
        return AsyncOpenAI(base_url=f"{self.server.url}/v1", api_key=token, max_retries=0)


@pytest.fixture
async def site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    keys = tmp_path / "keys"
    keys.write_text(b64encode(os.urandom(32)).decode())
    system.environ |= {
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers"),
        "HOLDLINE_ENCRYPTION_KEYS": str(keys),
        "HOLDLINE_PARTITIONS": "3",
        "HOLDLINE_WEBHOOK_URL": "http://127.0.0.1:9/hook",
        "HOLDLINE_WEBHOOK_SECRET": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    signer = await system.add_signer()
    async with FakeModel() as model:
        server, _ = await asyncio.gather(
            system.server(), system.worker(model.url, HOLDLINE_CONCURRENCY="5")
        )
        yield Site(system, server, model, signer)


async def create_responses(site: Site, who: tuple[str, str]) -> list[str]:
    """Creates four responses: a finished one, its continuation, a running one and a cancelled one.

    Returns their ids in this order.
    """
    async with site.sdk(*who) as client:
        asked: dict[str, Any] = {"model": "m", "extra_headers": {"Idempotency-Key": "k"}}
        first = await client.responses.create(input=f"tokens=3 of={who}", **asked)
        second = await client.responses.create(
            input="tokens=3 say=more", model="m", previous_response_id=first.id
        )
        runs = await client.responses.create(input=f"{SLOW} {who}", model="m", background=True)
        cut = await client.responses.create(input=f"{SLOW} {who}", model="m", background=True)
        await client.responses.cancel(cut.id)
        rating = {"rating": "down", "comment": f"{who}?"}
        await client.post(f"/responses/{second.id}/feedback", cast_to=object, body=rating)
        return [first.id, second.id, runs.id, cut.id]


async def test_only_the_responses_of_one_end_user_are_exported_and_deleted(
    site: Site, pipe: Pipe
) -> None:
    mine = await create_responses(site, ANNA)
    theirs = [id_ for who in OTHERS for id_ in await create_responses(site, who)]
    exported = await site.system.run("subject", "export", "/".join(ANNA))
    lines = {line["response"]["id"]: line for line in map(json.loads, exported.splitlines())}
    assert sorted(mine) == sorted(lines)
    first, second, runs, cut = (lines[id_] for id_ in mine)
    assert f"of={ANNA}" in first["input"][0]["content"][0]["text"]
    assert first["response"]["output"][0]["content"][0]["text"].split()
    assert [*first["input"], *first["response"]["output"]] == second["before"]
    assert ("in_progress", "cancelled") == (runs["response"]["status"], cut["response"]["status"])
    given = [lines[id_]["feedback"] for id_ in mine]
    assert [None, {"rating": "down", "comment": f"{ANNA}?"}, None, None] == given
    assert {"acme/anna%40x%2F1"} == {line["owner"] for line in lines.values()}

    # The webhook about the feedback waits for its receiver, although its response has expired.
    [webhook] = await pipe.call("KEYS", f"*:feedback:{second['response']['id']}")
    for kind in (b":job:", b":log:"):
        await pipe.call("DEL", webhook.replace(b":feedback:", kind))

    running = [call for call in site.model.open_calls if str(ANNA) in call.prompt]
    assert 1 == len(running)
    output = await site.system.run("subject", "delete", "/".join(ANNA))
    assert (
        "3 responses were deleted; 1 of them were unfinished and were stopped; "
        "0 conversations and 0 push subscriptions were deleted\n"
    ) == output
    await wait_until(lambda: running[0].closed_by_client)
    again = await site.system.run("subject", "delete", "/".join(ANNA))
    assert again.startswith("0 responses were deleted")
    assert "" == await site.system.run("subject", "export", "/".join(ANNA))

    # Until a claim's lease expires, Redis keeps the response ids that the claim returned, but no
    # content.
    held = repr({k: v for k, v in (await dump(pipe)).items() if b":claimed:" not in k})
    assert not [id_ for id_ in mine if id_ in held]
    assert all(id_ in held for id_ in theirs)
    async with site.sdk(*ANNA) as client:
        for id_ in mine:
            with pytest.raises(NotFoundError):
                await client.responses.retrieve(id_)
    for number, who in enumerate(OTHERS):
        async with site.sdk(*who) as client:
            for id_ in theirs[4 * number : 4 * number + 4]:
                assert id_ == (await client.responses.retrieve(id_)).id


@pytest.mark.parametrize(
    ("written", "owner"),
    [
        ("public", "public"),
        ("acme/", "acme/"),
        ("acme/anna@x", "acme/anna%40x"),
        ("acme/a/b~", "acme/a%2Fb%7E"),
        ("acme/100%25", "acme/100%2525"),
    ],
)
def test_an_owner_is_escaped_as_in_its_token(written: str, owner: str) -> None:
    assert owner == arguments.owner(written)


@pytest.mark.parametrize("written", ["", "acme", "a b/c", "*/*", "acme/" + "x" * 257])
def test_an_invalid_owner_is_rejected(written: str) -> None:
    with pytest.raises(ValueError, match=r"the tenant must be|TENANT/SUBJECT"):
        arguments.owner(written)


async def test_a_search_over_several_batches_finds_each_response_once_and_skips_foreign_keys(
    pipe: Pipe,
) -> None:
    queue = Queue(pipe, SharedSettings())
    wanted = []
    for number in range(3 * subject.AT_ONCE):
        job = a_job(owner="acme/anna" if number % 3 else "acme/annabel")
        await queue.submit(job, opening(job))
        if number % 3:
            wanted.append(job.id)
    for alien in ("holdline:{0}:job:x", f"holdline:{{7}}:job:{new_response_id(0)}"):
        await pipe.call("HSET", alien, "owner", "acme/anna")
        await pipe.call("PEXPIRE", alien, 60_000)
    found = [id_ async for id_, _ in subject.owned(pipe, "acme/anna")]
    assert sorted(wanted) == sorted(found)


@pytest.mark.heavy
async def test_the_conversations_of_one_end_user_are_exported_and_deleted(
    site: Site, pipe: Pipe
) -> None:
    made: dict[tuple[str, str], str] = {}
    for who in (ANNA, OTHERS[0]):
        async with site.sdk(*who) as client:
            conversation = await client.conversations.create(
                items=[{"role": "user", "content": f"hello={who}"}], metadata={"of": str(who)}
            )
            made[who] = conversation.id
            await client.responses.create(
                input="tokens=3", model="m", conversation=conversation.id, background=True
            )
            await client.responses.create(
                input=SLOW, model="m", conversation=conversation.id, background=True
            )
    assert b"hello" not in repr(await dump(pipe)).encode()
    async with site.sdk(*OTHERS[0]) as client:
        with pytest.raises(NotFoundError):
            await client.conversations.retrieve(made[ANNA])

    exported = await site.system.run("subject", "export", "/".join(ANNA))
    [line] = [one for one in map(json.loads, exported.splitlines()) if "conversation" in one]
    assert ("acme/anna%40x%2F1", made[ANNA], {"of": str(ANNA)}) == (
        line["owner"],
        line["conversation"]["id"],
        line["conversation"]["metadata"],
    )
    assert [f"hello={ANNA}", "tokens=3"] == [one["content"][0]["text"] for one in line["items"][:2]]
    output = await site.system.run("subject", "delete", "/".join(ANNA))
    assert output.endswith("1 conversations and 0 push subscriptions were deleted\n")
    held = repr(await dump(pipe))
    assert made[OTHERS[0]] in held
    # The next check of the overdue conversations removes the last trace.
    await wait_until(lambda: _without(pipe, made[ANNA]))


async def _without(pipe: Pipe, id_: str) -> bool:
    return id_ not in repr({k: v for k, v in (await dump(pipe)).items() if b":claimed:" not in k})


async def test_an_export_ends_with_an_error_that_names_unreadable_responses(
    pipe: Pipe, redis_url: str
) -> None:
    queue = Queue(pipe, SharedSettings())
    job, _ = await claimed(queue, "acme/anna")
    async with Pipe(Redis(redis_url, Cipher(b64encode(os.urandom(32)).decode()))) as locked:
        lost = a_job("acme/anna")
        await Queue(locked, SharedSettings()).submit(lost, opening(lost))
    damaged = a_job("acme/anna")
    await queue.submit(damaged, opening(damaged))
    await pipe.call("HSET", NAMES.job(damaged.id), "job", b"\xc1")
    lines = []
    with pytest.raises(HoldlineError) as raised:
        async for line in subject.export(pipe, queue, "acme/anna"):
            lines.append(line)  # noqa: PERF401 - the export raises at its end
    assert [job.id] == [line["response"]["id"] for line in lines]
    assert lost.id in str(raised.value)
    assert damaged.id in str(raised.value)
    assert "3 responses were deleted" in (await subject.delete(pipe, queue, "acme/anna")).text
