"""A real Prometheus that scrapes a real system under load, and evaluates the deployed rules."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml  # type: ignore[import-untyped]
from aiohttp import web

from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.prometheus.rules import CONFIG, RULES
from tests.system import Process, Server, System, free_port, start_process, wait_until

WINDOW = "15s"
CONCURRENCY = 4
LOAD_SECONDS = 0.2
# These alerts also fire if other programs use the cores. The unit tests check their silence.
LOAD_DEPENDENT = {
    "HoldlineLeasesLost",
    "HoldlineLoopLag",
    "HoldlineNotificationsLate",
    "HoldlineRedisSlow",
}
FIRES_SECONDS = 150.0
# The jobs that a fault has delayed run within this time after it, and may restart.
QUIET_SECONDS = 10.0


def shortened(rules: str) -> str:
    """Returns the deployed rules with shorter durations and windows, and nothing else changed."""
    rules = re.sub(r"(\bfor:) \w+", r"\1 1s", rules)
    return rules.replace("[5m]", f"[{WINDOW}]")


class Webhooks:
    """A receiver of webhooks, which replies with `status`."""

    def __init__(self) -> None:
        self.status = 204

    async def post(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=self.status)


class Live:
    """The running system, its load and its Prometheus."""

    def __init__(self, system: System, folder: Path, model: FakeModel, pipe: Pipe) -> None:
        self.system, self.folder, self.model, self.pipe = system, folder, model, pipe
        self.webhooks = Webhooks()
        self.key_file = folder / "key.json"
        self.server_port, self.worker_port, self.port = (free_port() for _ in range(3))
        self.server: Server
        self.worker: Process
        self.key = ""
        self.http: aiohttp.ClientSession

    async def start_server(self) -> None:
        self.server = await self.system.server(HOLDLINE_PORT=str(self.server_port))

    async def start_worker(self) -> None:
        self.worker = await self.system.worker(
            self.model.url, HOLDLINE_WORKER_PORT=str(self.worker_port)
        )

    async def submit(self, prompt: str = "tokens=3", model: str = "m") -> None:
        """Submits a prompt. Errors are ignored, because the tests break the server."""
        headers = {"Authorization": f"Bearer {self.key}"}
        body = {"input": prompt, "model": model, "background": True}
        url = f"http://127.0.0.1:{self.server_port}/v1/responses"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.http.post(url, json=body, headers=headers) as response:
                await response.read()

    async def load(self) -> None:
        """Submits prompts until cancelled."""
        while True:
            await self.submit()
            await asyncio.sleep(LOAD_SECONDS)

    async def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        async with self.http.get(url, params=query) as response:
            return (await response.json())["data"]

    async def query(self, expression: str) -> list[float]:
        """Returns the values of an expression of a dashboard."""
        data = await self.ask("query", query=expression.replace("$__rate_interval", WINDOW))
        return [float(row["value"][1]) for row in data["result"]]

    async def firing(self) -> set[str]:
        alerts = (await self.ask("alerts"))["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    async def expect(self, *alerts: str, allowed: tuple[str, ...] = ()) -> None:
        """Waits until these alerts fire. No others may fire meanwhile."""
        seen: set[str] = set()

        async def all_fire() -> bool:
            seen.update(await self.firing())
            return set(alerts) <= seen

        await wait_until(all_fire, FIRES_SECONDS)
        others = seen - {*alerts, *allowed} - LOAD_DEPENDENT
        assert not others, f"other alerts have fired: {others}"

    async def silent(self) -> None:
        """Waits until no alert has fired for `QUIET_SECONDS`."""
        quiet_since = time.monotonic()

        async def is_quiet() -> bool:
            nonlocal quiet_since
            if await self.firing() - LOAD_DEPENDENT:
                quiet_since = time.monotonic()
            return time.monotonic() - quiet_since > QUIET_SECONDS

        await wait_until(is_quiet, FIRES_SECONDS)


@contextlib.asynccontextmanager
async def running(
    system: System, folder: Path, model: FakeModel, pipe: Pipe
) -> AsyncIterator[Live]:
    """Starts all processes and the load, and waits for the first samples."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    live = Live(system, folder, model, pipe)
    app = web.Application()
    app.router.add_post("/", live.webhooks.post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port := free_port())
    await site.start()
    models = folder / "models.toml"
    command = f'["cat", "{live.key_file}"]'
    models.write_text(
        f'default = "m"\n[models.m]\nbase_url = "{model.url}"\n'
        f'[models.soon]\nbase_url = "{model.url}"\napi_key_command = {command}\n'
        f'[models.nokey]\nbase_url = "{model.url}"\napi_key_command = ["false"]\n'
    )
    system.environ |= {
        "HOLDLINE_MODEL": "",
        "HOLDLINE_MODELS": str(models),
        "HOLDLINE_API_KEYS": "redis",
        "HOLDLINE_CONCURRENCY": str(CONCURRENCY),
        "HOLDLINE_SHUTDOWN_DELAY_SECONDS": "30",
        "HOLDLINE_TENANT_TOKENS_PER_DAY": "100000000",
        "HOLDLINE_WEBHOOK_URL": f"http://127.0.0.1:{port}/",
        "HOLDLINE_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    printed = await system.run("keys", "create", "acme")
    live.key = re.findall(r"hl_\w+", printed)[-1]
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    ports = {"holdline-server": live.server_port, "holdline-worker": live.worker_port}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    (folder / "rules.yml").write_text(shortened(RULES.read_text()))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as live.http:
        await live.start_server()
        await live.start_worker()
        argv = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{live.port}",
            "--log.level=warn",
        ]
        output = folder / "prometheus.log"
        prometheus = start_process(Process, "prometheus", argv, output, {}, folder)
        load = asyncio.create_task(live.load(), name="load")
        try:

            async def scraped() -> bool:
                with contextlib.suppress(aiohttp.ClientError):
                    return [1, 1] == await live.query('up{job=~"holdline-.*"}')
                assert prometheus.popen.poll() is None, prometheus.output
                return False

            await wait_until(scraped, 60)
            yield live
        finally:
            load.cancel()
            await asyncio.gather(load, return_exceptions=True)
            await prometheus.kill()
            await runner.cleanup()
