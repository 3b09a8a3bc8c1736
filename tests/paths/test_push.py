"""Tests pushes end to end, with servers, workers, a simulated push service and its browsers."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from openai import AsyncOpenAI

import holdline_client
from jobs.redis.pipe import Pipe
from jobs.vapid import decode, new_vapid_key, parse_vapid_keys
from tests.fake_model import FakeModel
from tests.push_service import Browser, PushService, push_environ, push_service
from tests.system import Process, Server, System, wait_until
from tests.webhook_receiver import SECRET, Receiver, receiving

# Each test starts several processes.
pytestmark = pytest.mark.timeout(180)


@dataclass
class Site:
    """A server that sends pushes, a worker, a model and a simulated push service."""

    system: System
    server: Server
    worker: Process
    model: FakeModel
    service: PushService
    signer: str
    keys: Path

    def token(self, subject: str) -> str:
        return holdline_client.mint_token(self.signer, tenant="acme", subject=subject)

    def sdk(self, subject: str) -> AsyncOpenAI:
        base_url = f"{self.server.url}/v1"
        return AsyncOpenAI(base_url=base_url, api_key=self.token(subject), max_retries=0)

    @property
    def server_key(self) -> bytes:
        return next(iter(parse_vapid_keys(self.keys.read_text())))

    async def call(
        self, subject: str, method: str, path: str, body: Any = None
    ) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token(subject)}"}
        async with (
            aiohttp.ClientSession() as http,
            http.request(
                method, f"{self.server.url}/v1/push/{path}", json=body, headers=headers
            ) as answer,
        ):
            return answer.status, await answer.json()

    async def browser(self, subject: str) -> Browser:
        """Returns a browser of an end user that has subscribed."""
        browser = Browser(self.service, self.server_key)
        status, _ = await self.call(subject, "POST", "subscriptions", browser.json)
        assert status == 200
        return browser

    async def ended(self, subject: str, prompt: str, **more: Any) -> str:
        """Submits a prompt in the background, and returns the response's id once it has ended.

        The wait looks at the model's calls only, because a client that reads the end has seen it.
        """
        calls = len(self.model.calls)
        async with self.sdk(subject) as client:
            response = await client.responses.create(
                input=prompt, model="m", background=True, **more
            )
        await wait_until(lambda: len(self.model.calls) > calls)
        id_: str = response.id
        return id_


@pytest.fixture
async def site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    keys = tmp_path / "encryption"
    keys.write_text(base64.b64encode(os.urandom(32)).decode())
    system.environ |= push_environ(tmp_path) | {
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers"),
        "HOLDLINE_ENCRYPTION_KEYS": str(keys),
        "HOLDLINE_PARTITIONS": "3",
    }
    signer = await system.add_signer()
    async with FakeModel() as model, push_service() as service:
        server = await system.server()
        worker = await system.worker(model.url)
        yield Site(system, server, worker, model, service, signer, tmp_path / "vapid.keys")


async def test_each_device_of_the_user_is_told_once_that_an_unseen_answer_has_ended(
    site: Site, pipe: Pipe
) -> None:
    phone, laptop = await site.browser("anna"), await site.browser("anna")
    stranger = await site.browser("ben")

    response_id = await site.ended("anna", "tokens=3 say=secret-word")
    await wait_until(lambda: phone.messages and laptop.messages)

    expected = {"id": response_id, "status": "completed"}
    assert [expected] == phone.messages == laptop.messages
    assert [] == stranger.messages
    assert 86_390 <= site.service.ttls[0] <= 86_400
    assert phone.topics == laptop.topics
    assert 2 == site.service.requests
    stored = [await pipe.call("GET", key) for key in await pipe.call("KEYS", "*subscription:*")]
    assert 3 == len(stored)
    assert phone.path.encode() not in b"".join(stored)
    for process in (site.server, site.worker):
        assert phone.path not in process.output


async def test_nothing_is_sent_for_an_answer_that_a_device_has_received(site: Site) -> None:
    browser = await site.browser("anna")
    url, token = site.server.url, site.token("anna")
    async with holdline_client.connect(url, token=token) as client, site.sdk("anna") as http:
        await client.ask("by socket")
        await http.responses.create(input="by request", model="m")
        cancelled = await http.responses.create(input="never", model="m", background=True)
        await http.responses.cancel(cancelled.id)
    unseen = await site.ended("anna", "unseen")
    await wait_until(lambda: browser.messages)
    assert [unseen] == [message["id"] for message in browser.messages]


@pytest.mark.heavy
async def test_a_push_names_the_conversation_and_shows_the_answer_only_if_the_site_says_so(
    site: Site,
) -> None:
    browser = await site.browser("anna")
    async with site.sdk("anna") as client:
        conversation = await client.conversations.create()
    await site.system.worker(site.model.url, HOLDLINE_PUSH_PREVIEW_CHARACTERS="12")
    seen: set[str] = set()
    for _ in range(12):  # either worker may send the push
        await site.ended("anna", "tokens=9 say=word", conversation=conversation.id)
        await wait_until(lambda: len(browser.messages) > len(seen))
        seen.add(str(browser.messages[-1]))
        assert conversation.id == browser.messages[-1]["conversation"]
        if "preview" in browser.messages[-1]:
            assert 0 < len(browser.messages[-1]["preview"]) <= 12
            return
    raise AssertionError("no push of the worker that shows the answer")


@pytest.mark.heavy
async def test_a_subscription_that_no_longer_exists_is_removed(site: Site) -> None:
    gone = await site.browser("anna")
    gone.gone = True
    await site.ended("anna", "first")
    await wait_until(lambda: site.service.requests == 1)

    async def forgotten() -> bool:
        _, found = await site.call("anna", "GET", "subscriptions")
        return not found["data"]

    await wait_until(forgotten)
    assert 1 == site.service.requests


@pytest.mark.heavy
async def test_a_push_is_sent_again_when_the_service_says_so(site: Site) -> None:
    browser = await site.browser("anna")
    site.service.answers.append((429, {"Retry-After": "6"}))
    response_id = await site.ended("anna", "second")
    await wait_until(lambda: browser.messages, seconds=30)
    assert [response_id] == [message["id"] for message in browser.messages]
    assert 2 == site.service.requests


async def test_a_removed_subscription_gets_nothing_and_belongs_to_its_owner(site: Site) -> None:
    browser = await site.browser("anna")
    _, listed = await site.call("anna", "GET", "subscriptions")
    [found] = listed["data"]
    assert "browser" == found["type"]
    assert browser.path not in str(listed)
    assert 404 == (await site.call("ben", "DELETE", f"subscriptions/{found['id']}"))[0]
    assert [] == (await site.call("ben", "GET", "subscriptions"))[1]["data"]

    # Ben signs in with the same browser, so it is no longer Anna's.
    assert 200 == (await site.call("ben", "POST", "subscriptions", browser.json))[0]
    assert [] == (await site.call("anna", "GET", "subscriptions"))[1]["data"]
    assert 404 == (await site.call("anna", "DELETE", f"subscriptions/{found['id']}"))[0]
    await site.ended("anna", "not for ben")
    bens = await site.ended("ben", "for ben")
    await wait_until(lambda: browser.messages)
    assert [bens] == [message["id"] for message in browser.messages]

    status, body = await site.call("ben", "DELETE", f"subscriptions/{found['id']}")
    assert (200, True) == (status, body["deleted"])
    assert 404 == (await site.call("ben", "DELETE", f"subscriptions/{found['id']}"))[0]


@pytest.mark.heavy
async def test_the_commands_for_an_end_user_export_and_delete_the_subscriptions(
    site: Site, pipe: Pipe
) -> None:
    browser, other = await site.browser("anna"), await site.browser("ben")
    exported = await site.system.run("subject", "export", "acme/anna")
    assert browser.endpoint in exported
    assert other.endpoint not in exported

    said = await site.system.run("subject", "delete", "acme/anna")

    assert "1 push subscriptions" in said
    assert [] == (await site.call("anna", "GET", "subscriptions"))[1]["data"]
    assert 1 == len((await site.call("ben", "GET", "subscriptions"))[1]["data"])
    assert not [key for key in await pipe.call("KEYS", "*subscriptions:*") if b"anna" in key]


@pytest.mark.heavy
async def test_old_subscriptions_get_pushes_while_the_old_key_is_still_in_the_file(
    site: Site,
) -> None:
    old = await site.browser("anna")
    old_key = site.server_key
    site.keys.write_text(f"{new_vapid_key().written}\n{site.keys.read_text()}")
    for process in (site.server, site.worker):
        process.signal(signal.SIGTERM)
        await process.wait(20)
    site.server = await site.system.server()
    await site.system.worker(site.model.url)

    _, found = await site.call("anna", "GET", "key")
    assert site.server_key == decode(found["key"]) != old_key
    new = await site.browser("anna")
    response_id = await site.ended("anna", "x")
    await wait_until(lambda: old.messages and new.messages)
    assert [response_id] == [old.messages[0]["id"]]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@pytest.mark.heavy
async def test_the_site_gets_a_signed_message_for_each_device_of_an_app(
    system: System, receiver: Receiver, tmp_path: Path
) -> None:
    system.environ |= receiver.environ | {
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers"),
        "HOLDLINE_PUSH_DEVICES": "1",
        "HOLDLINE_PUSH_WAIT_SECONDS": "1",
    }
    signer = await system.add_signer()
    async with FakeModel() as model, push_service() as service:
        server = await system.server()
        worker = await system.worker(model.url)
        site = Site(system, server, worker, model, service, signer, tmp_path / "none")
        status, _ = await site.call("anna", "POST", "subscriptions", {"device": "apns:0a1b"})
        assert status == 200
        assert 404 == (await site.call("anna", "GET", "key"))[0]
        response_id = await site.ended("anna", "x")
        await wait_until(lambda: receiver.pushed)
    assert [("holdline.push", "apns:0a1b", response_id)] == receiver.pushed
    assert SECRET not in server.output
