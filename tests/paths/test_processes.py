"""Tests the checks, start-up errors and logs that an operator sees from server and worker."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest

from command.up.redis import embedded_redis
from runtime.command_line import INVALID_SETTINGS
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.system import ROOT, System, free_port, run_module, wait_until

PROCESSES = ["server", "worker"]
CHECK = ("command", "check", "--connect", "--program")


def has_ipv6() -> bool:
    """Returns True if a program can listen on the IPv6 loopback address."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.mark.parametrize("process", PROCESSES)
def test_check_reports_the_redis_version_and_hides_secrets(process: str, redis_url: str) -> None:
    said = run_module(*CHECK, process, REDIS_URL=redis_url, OPENAI_API_KEY="sk-canary")
    assert 0 == said.returncode, said.stderr
    assert "Valkey" in said.stdout or "Redis" in said.stdout
    assert "canary" not in said.stdout + said.stderr


@pytest.mark.parametrize("process", PROCESSES)
def test_check_fails_if_redis_is_unreachable(process: str) -> None:
    said = run_module(
        *CHECK, process, REDIS_URL="redis://:canary@127.0.0.1:1/0", OPENAI_API_KEY="x"
    )
    assert 1 == said.returncode
    assert "Redis" in said.stderr
    assert "canary" not in said.stdout + said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("process", PROCESSES)
def test_an_unknown_setting_is_rejected_with_the_nearest_name(process: str) -> None:
    said = run_module(process, HOLDLINE_CONCURENCY="5", OPENAI_API_KEY="x")
    assert INVALID_SETTINGS == said.returncode
    assert "HOLDLINE_CONCURENCY" in said.stderr
    assert "HOLDLINE_CONCURRENCY" in said.stderr


@pytest.mark.parametrize("process", PROCESSES)
async def test_a_redis_that_evicts_keys_is_rejected_with_the_setting_to_change(
    process: str,
) -> None:
    async with embedded_redis(
        None, "--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru"
    ) as url:
        said = await asyncio.to_thread(run_module, process, REDIS_URL=url, OPENAI_API_KEY="x")
    assert 1 == said.returncode
    assert "maxmemory-policy" in said.stderr


def test_a_server_without_keys_may_listen_only_on_loopback(redis_url: str) -> None:
    said = run_module("server", REDIS_URL=redis_url, HOLDLINE_HOST="0.0.0.0")
    assert INVALID_SETTINGS == said.returncode
    assert "HOLDLINE_HOST" in said.stderr


@pytest.mark.heavy
@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 address")
async def test_a_server_logs_an_ipv6_address_in_brackets(redis_url: str, tmp_path: Path) -> None:
    port = str(free_port())
    async with System(redis_url, tmp_path) as system:
        server = system.start("server", HOLDLINE_HOST="::1", HOLDLINE_PORT=port)
        await wait_until(lambda: "server ready" in server.output, 60)
        assert f"http://[::1]:{port}" in server.output
        checked = run_module(*CHECK[:2], "--program", "server", HOLDLINE_HOST="::1")
        assert "server  address: [::1]:8080" in checked.stdout.splitlines()


@pytest.mark.checkout
@pytest.mark.parametrize("process", PROCESSES)
async def test_server_and_worker_run_without_each_others_code(
    process: str, tmp_path: Path, redis_url: str
) -> None:
    for part in ("jobs", "runtime", process, "web"):
        shutil.copytree(ROOT / part, tmp_path / part)
    program = (sys.executable, "-m")
    async with System(redis_url, tmp_path, program=program, cwd=tmp_path) as alone:
        if process == "server":
            await alone.server()
        else:
            await alone.worker("http://127.0.0.1:1/v1")


async def test_prompts_answers_and_keys_do_not_appear_in_logs_or_errors(
    system: System, model: FakeModel
) -> None:
    system.environ |= {"OPENAI_API_KEY": "sk-canary-key", "HOLDLINE_MAX_ATTEMPTS": "1"}
    server = await system.server()
    worker = await system.worker(model.url)
    told: list[str] = []
    async with sdk(server) as client:
        for script in ("", "mode=badjson", "mode=errorobject", "mode=400", "mode=401", "mode=html"):
            try:
                response = await client.responses.create(
                    input=f"canary-prompt {script}",
                    model="m",
                    instructions="canary-instructions",
                    metadata={"canary": "canary-metadata"},
                )
                told.append(str(response.error))
            except openai.APIStatusError as error:
                told.append(f"{error} {error.response.headers}")
        with pytest.raises(openai.BadRequestError):
            await client.responses.create(input="canary-refused", model="m", temperature=99)
    for process in (server, worker):
        process.signal(signal.SIGTERM)
        assert 0 == await process.wait()
    for said in (server.output, worker.output, *told):
        assert "canary" not in said
    # Each token of the fake model contains the number of its call, so this pattern finds the text
    # of any answer.
    assert "c1t" not in server.output + worker.output
