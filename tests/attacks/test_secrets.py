"""Tests that no interface leaks a secret and that deleted data does not stay in Redis."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from jobs.names import Partition
from jobs.redis.pipe import Pipe
from server.config import Config
from tests.fake_model import FakeModel
from tests.jobs.dump import dump
from tests.system import System, wait_until
from worker.config import load as load_worker_config

pytestmark = pytest.mark.timeout(120)
HOOK_SECRET = "whsec_" + "Y2FuYXJ5" * 5  # base64 of canarycanary...
SECRETS = {
    "OPENAI_API_KEY": "sk-canary-upstream",
    "HOLDLINE_WEBHOOK_URL": "http://127.0.0.1:9/canary-hook",
    "HOLDLINE_WEBHOOK_SECRET": HOOK_SECRET,
    "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
    "HOLDLINE_MAX_ATTEMPTS": "1",
}
SCRIPTS = ["", *(f"mode={m}" for m in ("400", "401", "503", "badjson", "errorobject", "html"))]
# With these prompt scripts, the fake model fails after some output, so the server returns the
# partial response. With all other scripts, the server returns an HTTP error.
BEGUN = ("", "mode=badjson", "mode=errorobject")
# The forms in which a canary appears in JSON, base64 and headers.
FORMS = ("canary", "Y2FuYXJ5", "Canary")


def body(script: str) -> dict[str, Any]:
    """Returns a request with a canary in every field that accepts free text."""
    image = {"type": "input_image", "image_url": "data:image/png;base64,Y2FuYXJ5"}
    text = {"type": "input_text", "text": f"canary-prompt {script}"}
    return {
        "input": [{"role": "user", "content": [image, text]}],
        "model": "m",
        "instructions": "canary-instructions",
        "metadata": {"canary-key": "canary-value"},
        "idempotency_key": f"canary-idempotency-{script}",
        "user": "canary-user",
        "tools": [{"type": "function", "name": "canary", "description": "canary-tool"}],
    }


async def test_secrets_do_not_reach_logs_errors_or_metrics(system: System, pipe: Pipe) -> None:
    system.environ |= SECRETS
    async with FakeModel() as model, aiohttp.ClientSession() as http:
        server, worker_ = await asyncio.gather(system.server(), system.worker(model.url))
        responses, outputs = f"{server.url}/v1/responses", []
        http.headers["Authorization"] = "Bearer canary-token"
        http.headers["User-Agent"] = "canary-agent"
        ids = []
        for script in SCRIPTS:
            async with http.post(responses, json=body(script)) as answer:
                ids.append(answer.headers["X-Response-Id"])
                found = await answer.json()
                assert (answer.status == 200) == (script in BEGUN), found
                outputs.append(str(found["error"]))
        # Cause validation errors in requests that contain secrets.
        refused: list[dict[str, Any]]
        refused = [{"temperature": 99}, {"tools": "x"}, {"input": 5}, {"metadata": []}]
        for wrong in refused:
            async with http.post(responses, json=body("refused") | wrong) as answer:
                assert 400 == answer.status
                outputs.append(await answer.text())
        async with http.post(responses, json=body("") | {"input": "canary-other"}) as answer:
            assert 422 == answer.status
            outputs.append(await answer.text())
        async with http.post(responses, data=b'{"input": "canary-broken') as answer:
            outputs.append(await answer.text())
        for path in ("/metrics", "/openapi.json", "/asyncapi.json", "/readyz", "/v1/models"):
            async with http.get(server.url + path) as answer:
                outputs.append(await answer.text())
        outputs += await _damaged(http, responses, pipe, ids[0])
        # A worker dies during a response, and another worker reports the failure.
        asked = asyncio.create_task(_ask(http, responses, "mode=slow pace=5"))
        await wait_until(lambda: any("pace=5" in call.prompt for call in model.calls))
        await worker_.kill()
        successor = await system.worker(model.url)
        await asked
        outputs.append(await system.run("dead", "list"))
        for process in (server, successor):
            process.signal(signal.SIGTERM)
            assert 0 == await process.wait(30)
    for output in (server.output, worker_.output, successor.output, *outputs):
        for form in FORMS:
            assert form not in output, output


async def _ask(http: aiohttp.ClientSession, responses: str, script: str) -> None:
    async with http.post(responses, json=body(script)) as answer:
        assert "server_error" == (await answer.json())["error"]["code"]


async def _damaged(
    http: aiohttp.ClientSession, responses: str, pipe: Pipe, response_id: str
) -> list[str]:
    """Damages a response's record and log, and returns the server's replies about the response."""
    names, outputs = Partition(0), []
    await pipe.call("HSET", names.job(response_id), "job", b"\xc1canary-record")
    # A log is stored in another form once it has been compacted, soon after the response has ended.
    # Damage the log in its current form.
    if await pipe.call("HEXISTS", names.job(response_id), "block0"):
        await pipe.call("HSET", names.job(response_id), "block0", b"\xc1canary-block")
    else:
        await pipe.call("LSET", names.log(response_id), 0, b"\xc1canary-entry")
    for path in ("", "?stream=true", "/input_items"):
        async with http.get(f"{responses}/{response_id}{path}") as answer:
            outputs.append(await answer.text())
    return outputs


def test_the_repr_of_a_configuration_hides_secrets() -> None:
    environ = SECRETS | {"REDIS_URL": "redis://:canary-password@127.0.0.1:6379/0"}
    for config in (load_worker_config(environ), Config.from_environ(environ)):
        for form in FORMS:
            assert form not in repr(config)
            assert form not in f"{config}"


async def test_core_dumps_are_disabled(system: System) -> None:
    async with FakeModel() as model:
        server, worker_ = await asyncio.gather(system.server(), system.worker(model.url))
        for process in (server, worker_):
            limits = Path(f"/proc/{process.popen.pid}/limits").read_text()
            (line,) = (line for line in limits.splitlines() if "core file" in line)
            assert ["0", "0"] == line.split()[4:6]


async def test_a_deleted_response_leaves_no_trace_in_redis(system: System, pipe: Pipe) -> None:
    system.environ |= SECRETS
    async with FakeModel() as model, aiohttp.ClientSession() as http:
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        responses = f"{server.url}/v1/responses"
        ids = []
        for script in SCRIPTS[:2]:
            async with http.post(responses, json=body(script)) as answer:
                ids.append(answer.headers["X-Response-Id"])
        held = repr(await dump(pipe))
        assert "canary" in held
        names = Partition(0)
        assert await pipe.call("ZCARD", names.hooks)
        for id_ in ids:
            assert id_ in held
            async with http.delete(f"{responses}/{id_}") as answer:
                assert 200 == answer.status
        # Until a claim's lease expires, Redis keeps the response ids that the claim returned, but
        # no content.
        left = {k: v for k, v in (await dump(pipe)).items() if b":claimed:" not in k}
    assert "canary" not in repr(left)
    for id_ in ids:
        assert id_ not in repr(left)
    assert not any(name.startswith((names.prefix + "key:").encode()) for name in map(_bytes, left))


def _bytes(name: object) -> bytes:
    return name if isinstance(name, bytes) else str(name).encode()
