"""Tests a real LiteLLM proxy as Holdline's upstream model."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from openai import BadRequestError, NotFoundError, RateLimitError

from tests.paths.conftest import sdk
from tests.system import System, clean_environ, free_port, wait_until

CONFIG = Path(__file__).parent / "litellm.yaml"
KEY = f"sk-{secrets.token_hex(32)}"
SAID = "The sky is blue because short waves scatter more, 👋🏽."
START_SECONDS = 120

pytestmark = [pytest.mark.timeout(2 * START_SECONDS), pytest.mark.heavy]


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[str]:
    """Starts a proxy and returns its base URL."""
    port = free_port()
    program = Path(os.environ["PROGRAMS"]) / "bin" / "litellm"
    output = tmp_path / "litellm.log"
    with output.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(program, "--config", CONFIG, "--host", "127.0.0.1", "--port", str(port)),
            env={
                **clean_environ(),
                "LITELLM_MASTER_KEY": KEY,
                # Without this setting, LiteLLM would download its price list.
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "NO_PROXY": "127.0.0.1",
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as http:

            async def is_up() -> bool:
                assert process.returncode is None, output.read_text()
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{url}/health/liveliness") as answer:
                        return answer.status == 200
                return False

            await wait_until(is_up, START_SECONDS)
        yield f"{url}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_a_litellm_proxy_works_as_an_upstream(system: System, proxy: str) -> None:
    system.environ |= {"HOLDLINE_MAX_ATTEMPTS": "1", "OPENAI_API_KEY": KEY}
    await system.worker(proxy)
    async with sdk(await system.server()) as client:
        plain = await client.responses.create(model="mocked", input="Why is the sky blue?")
        assert ("completed", SAID) == (plain.status, plain.output_text)
        assert plain.usage is not None
        assert plain.usage.output_tokens > 0
        stream = await client.responses.create(model="mocked", input="Why?", stream=True)
        deltas = [e.delta async for e in stream if e.type == "response.output_text.delta"]
        assert SAID == "".join(deltas)
        with pytest.raises(RateLimitError) as limited:
            await client.responses.create(model="limited", input="Why?")
        assert "rate_limit_exceeded" == limited.value.code
        with pytest.raises((BadRequestError, NotFoundError)) as unknown:
            await client.responses.create(model="nobody", input="Why?")
        assert unknown.value.code in ("invalid_prompt", "model_not_found")
