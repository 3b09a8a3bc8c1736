"""Tests that real processes accept clients' API keys and tokens and never leak them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

import holdline_client
from holdline_client.errors import Closed
from tests.fake_model import FakeModel
from tests.system import ROOT, Server, System, free_port, in_module_loop

pytestmark = in_module_loop

NO_PROXY = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}


@dataclass
class Site:
    """A server that requires an API key or token, and a worker."""

    system: System
    server: Server
    key: str
    signer: str

    def token(self, seconds: float = 600, subject: str = "anna") -> str:
        return holdline_client.mint_token(
            self.signer, tenant="acme", subject=subject, seconds=seconds
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    module_system: System, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    system, signers = module_system, tmp_path_factory.mktemp("keys") / "signers"
    system.environ |= {"HOLDLINE_API_KEYS": "redis", "HOLDLINE_JWT_KEYS": str(signers)}
    key = (await system.run("keys", "create", "acme")).splitlines()[0]
    signer = await system.add_signer("canary-kid")
    async with FakeModel() as model:
        await system.worker(model.url)
        server = await system.server(HOLDLINE_AUTH_GRACE_SECONDS="1")
        yield Site(system, server, key, signer)


async def test_the_official_sdk_works_with_a_key_and_a_wrong_key_is_rejected(site: Site) -> None:
    def sdk(key: str) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{site.server.url}/v1", api_key=key, max_retries=0)

    async with sdk(site.key) as client:
        answer = await client.responses.create(input="Why?", model="simulation")
        assert "completed" == answer.status
        chat = await client.chat.completions.create(
            messages=[{"role": "user", "content": "Why?"}], model="simulation"
        )
        assert chat.choices[0].message.content
    async with sdk(site.token()) as client:
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(answer.id)
    async with sdk("hl_wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.responses.create(input="Why?", model="simulation")
    assert "invalid_api_key" == refused.value.code


async def test_the_python_client_fetches_a_new_token_before_the_old_one_expires(site: Site) -> None:
    fetched = 0

    async def fetch() -> str:
        nonlocal fetched
        fetched += 1
        await asyncio.sleep(0)
        return site.token(1)

    async with holdline_client.connect(site.server.url, token=fetch) as client:
        text = await client.ask("mode=slow tokens=60 pace=0.05")
    assert 60 == len(text.split())
    assert fetched > 1


async def test_the_python_client_raises_if_its_token_is_rejected(site: Site) -> None:
    with pytest.raises(Closed) as closed:
        async with holdline_client.connect(site.server.url, token="wrong"):
            pass
    assert (401, "invalid_token") == (closed.value.status, closed.value.code)
    assert "refused the API key or the token" in str(closed.value)
    async with holdline_client.connect(site.server.url) as client:
        with pytest.raises(Closed) as closed:
            await client.ask("Why?")
    assert (401, 4401) == (closed.value.status, closed.value.close_code)
    assert "authentication_required" == closed.value.code
    assert "requires an API key or a token, but this client has none" in str(closed.value)


@pytest.mark.parametrize("token", ["", "wrong"])
async def test_the_command_says_that_a_credential_is_missing_or_wrong(
    site: Site, token: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "holdline_client", "Why?"),
        cwd=ROOT,
        env={**NO_PROXY, "HOLDLINE_URL": site.server.url, "HOLDLINE_TOKEN": token},
        stderr=subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert 1 == process.returncode
    assert ("refused the API key" if token else "requires an API key") in errors.decode()
    assert ("invalid_token" if token else "authentication_required") in errors.decode()
    assert "set HOLDLINE_TOKEN" in errors.decode()
    assert "holdline keys create TENANT" in errors.decode()
    assert "holdline status" not in errors.decode(), "there is no response"


@pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: apt install nodejs"
)
async def test_the_web_client_sends_a_new_token_before_the_old_one_expires(site: Site) -> None:
    process = await asyncio.create_subprocess_exec(
        # Before Node 22, WebSocket is only available with a flag.
        *("node", "--experimental-websocket", str(ROOT / "tests/web/token.mjs")),
        site.server.ws_url,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=NO_PROXY,
    )
    said, _ = await process.communicate(f"{site.token(2)}\n{site.token()}\n".encode())
    assert ["state open", "expiring", "answer completed"] == said.decode().splitlines()


async def test_keys_and_tokens_do_not_appear_in_logs_or_metrics(site: Site) -> None:
    """No credential may appear in logs or metrics, whether valid or not and however it was sent."""
    bad = "canary-" + "x" * 40
    shown = [site.key, site.token(), f"hl_0123456789ab_{'canary0' * 6}z", f"{bad}.{bad}.{bad}"]
    async with aiohttp.ClientSession() as http:
        for credential in shown:
            headers = {"Authorization": f"Bearer {credential}"}
            await http.get(f"{site.server.url}/v1/models", headers=headers)
            await http.get(f"{site.server.url}/v1/models", params={"token": credential})
            await http.get(f"{site.server.url}/v1/{credential}")
            for protocols in (
                [f"bearer.{credential}"],
                [f"bearer.{credential}", "holdline.v1"],
            ):
                async with http.ws_connect(site.server.ws_url, protocols=protocols) as ws:
                    await ws.send_json({"type": "holdline:auth", "token": credential})
                    await ws.send_json({"type": "canary-type"})
                    await ws.receive(timeout=8)
        too_long = {"Authorization": f"Bearer canary-{'y' * 8100}"}
        async with http.get(f"{site.server.url}/v1/models", headers=too_long) as response:
            assert 400 <= response.status < 500
        async with http.get(f"{site.server.url}/metrics") as response:
            metrics = await response.text()
    everything = metrics + "".join(process.output for process in site.system._processes)
    assert "server ready" in everything
    for secret in (*shown, "canary", json.loads(site.signer)["d"]):
        assert secret not in everything


async def test_a_server_with_keys_may_listen_on_all_interfaces(site: Site) -> None:
    port = str(free_port())
    server = await site.system.server(HOLDLINE_HOST="0.0.0.0", HOLDLINE_PORT=port)
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/v1/models") as response:
        assert 401 == response.status
