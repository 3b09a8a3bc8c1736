"""Streams answers over HTTP through Holdline and through gateways without a queue."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.http_client import HttpClient, post
from bench.processes import BenchError, Process

if TYPE_CHECKING:
    from bench.http_client import Reply
    from bench.rig import Rig

OURS: Final = "holdline"
AGENTIC: Final = "agentic-api"
LITELLM: Final = "LiteLLM"
MODEL: Final = "the model itself"
# LiteLLM imports for tens of seconds on a busy machine.
START_SECONDS: Final = 120.0
ANSWER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """An HTTP server that streams answers, and the processes that it consists of, by role."""

    port: int
    parts: dict[str, Process]
    chat: bool = False

    def request(self, tokens: int) -> bytes:
        """Encodes the request for a streamed answer of this length."""
        prompt = f"tokens={tokens}"
        if self.chat:
            asked: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
            path = "/v1/chat/completions"
        else:
            asked, path = {"input": prompt}, "/v1/responses"
        return post(path, {"model": "bench", **asked, "stream": True}, self.port)

    @property
    def marker(self) -> bytes:
        """The bytes by which the first token is recognized."""
        return b'"content":"tok' if self.chat else b'"delta":"tok'

    def check(self, reply: Reply) -> None:
        """Checks that an answer is complete. Raises: BenchError."""
        if (b"[DONE]" if self.chat else b'"response.completed"') not in reply.data:
            raise BenchError(f"an answer is incomplete: {reply.data[-500:]!r}")


async def holdline(rig: Rig, model_url: str) -> Gateway:
    """Starts a server and a worker of Holdline."""
    server, port = await rig.server()
    worker = await rig.worker(model_url)
    return Gateway(port, {"server": server, "worker": worker, "redis": rig.redis})


async def agentic_api(rig: Rig, model_url: str) -> Gateway | None:
    """Starts agentic-api with its SQLite database, or returns None if it is not installed."""
    database = rig.folder / "agentic.db"
    process, port = await rig.gateway(
        "agentic-server",
        lambda port: [
            *("--llm-api-base", model_url.removesuffix("/v1"), "--skip-llm-ready-check"),
            *("--gateway-host", "127.0.0.1", "--gateway-port", str(port)),
            *("--db-url", f"sqlite://{database}?mode=rwc"),
        ],
        package="agentic-api",
        seconds=START_SECONDS,
        RUST_LOG="error",
        HOME=str(rig.folder),
    )
    return Gateway(port, {"server": process}) if process else None


async def litellm(rig: Rig, model_url: str) -> Gateway | None:
    """Starts LiteLLM's proxy, or returns None if it is not installed."""
    config = rig.folder / "litellm.yaml"
    # JSON is YAML.
    model = {"model": "openai/bench", "api_base": model_url, "api_key": "bench"}
    settings = {
        "model_list": [{"model_name": "bench", "litellm_params": model}],
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    process, port = await rig.gateway(
        "litellm",
        lambda port: ["--config", str(config), "--host", "127.0.0.1", "--port", str(port)],
        package="litellm",
        seconds=START_SECONDS,
        # Without this setting, LiteLLM would download its price list.
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_LOG="ERROR",
        # Its clients need no key, as Holdline's and agentic-api's need none here.
        LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY="true",
        HOME=str(rig.folder),
    )
    return Gateway(port, {"server": process}, chat=True) if process else None


@contextlib.asynccontextmanager
async def connected(port: int, count: int) -> AsyncIterator[list[HttpClient]]:
    """Opens this many connections, and closes them on exit."""
    clients = list(await asyncio.gather(*(HttpClient.connect(port) for _ in range(count))))
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


async def saturated(gateway: Gateway, tokens: int, answers: int, connections: int) -> float:
    """Requests the answers without a pause on all connections, and returns the seconds taken."""
    request, left = gateway.request(tokens), iter(range(answers))

    async def work(client: HttpClient) -> None:
        for _ in left:
            gateway.check(await client.ask(request))

    async with connected(gateway.port, min(connections, answers)) as clients:
        began = time.monotonic()
        async with asyncio.timeout(ANSWER_SECONDS):
            await asyncio.gather(*map(work, clients))
        return time.monotonic() - began
