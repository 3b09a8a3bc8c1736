"""Builds the image twice, and runs servers and workers from it as Docker and Kubernetes do."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import secrets
import shutil
import subprocess
import time
import tomllib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from openai import AsyncOpenAI

from command.up.redis import installed
from dev.wheel import stage
from runtime.command_line import INVALID_SETTINGS
from tests.deploy.containers import Container, Containers, unavailable
from tests.fake_model import FakeModel
from tests.system import (
    ROOT,
    Process,
    free_port,
    run_command,
    start_process,
    wait_until,
)

IMAGE = "localhost/holdline:tested"
GRACE_SECONDS = 20
NODE_SDK = ROOT / "tests/programs/node_sdk.mjs"


def test_the_context_of_the_build_has_everything_that_the_wheel_needs(tmp_path: Path) -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    context = tmp_path / "context"
    context.mkdir()
    for line in lines:
        if line.startswith("!"):
            found = list(ROOT.glob(line.removeprefix("!")))
            assert found, line
            for path in found:
                (context / path.name).symlink_to(path)
    stage(tmp_path / "staged", context)
    assert (tmp_path / "staged/holdline_server/command/probe.py").exists()


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    if reason := unavailable():
        pytest.skip(reason)
    containers = Containers(tmp_path_factory.mktemp("containers"))
    yield containers
    containers.close()


@pytest.fixture(scope="module")
def digest(containers: Containers) -> str:
    """Builds the base and the image, and returns the digest of the image."""
    containers.build_base("base")
    return containers.build("localhost/base", IMAGE)


@pytest.fixture(scope="module")
def image(digest: str) -> str:
    """Returns the name of the image, after it was built."""
    return IMAGE


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_two_builds_give_the_same_image(containers: Containers, digest: str) -> None:
    base = containers.inspect("localhost/base")["Id"]
    assert base == containers.build_base("base")
    assert digest == containers.build("localhost/base", "localhost/holdline:again")


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_the_image_says_what_it_is(containers: Containers, image: str) -> None:
    config = containers.inspect(image)["Config"]
    assert "10001:10001" == config["User"]
    assert ["holdline"] == config["Entrypoint"]
    assert None is config.get("Cmd")
    assert "SIGTERM" == config["StopSignal"]
    assert {"8080/tcp", "9100/tcp"} == set(config["ExposedPorts"])
    assert ["CMD", "holdline", "probe"] == containers.inspect(image)["Healthcheck"]["Test"]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert (version, revision) == (labels["version"], labels["revision"])
    assert "Apache-2.0" == labels["licenses"]
    sizes = [containers.inspect(name)["Size"] / 1e6 for name in (image, "localhost/base")]
    print(f"size: {sizes[0]:.0f} MB, of which {sizes[1]:.0f} MB are the base")
    assert sizes[0] - sizes[1] < 130


class Deployment:
    """Containers of the image on a Redis of this machine."""

    def __init__(self, containers: Containers, image: str, folder: Path) -> None:
        self._containers, self._image, self._folder = containers, image, folder
        self.redis_port = free_port()
        self.environ = {"REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0"}
        self.started: list[Container] = []
        self._redis: Process | None = None

    async def start_redis(self) -> Process:
        redis = [str(installed(os.environ.get("PATH")).path), "--port", str(self.redis_port)]
        options = ["--bind", "127.0.0.1", "--save", "", "--dir", str(self._folder)]
        log = self._folder / f"redis-{time.monotonic_ns()}.log"
        self._redis = redis_process = start_process(
            Process, "redis", [*redis, *options], log, {}, self._folder
        )
        await wait_until(lambda: "eady to accept connections" in redis_process.output)
        return redis_process

    def start(self, program: str, **environ: str) -> Container:
        # Without keys, a server serves only the loopback address.
        given = {
            **self.environ,
            "HOLDLINE_HOST": "127.0.0.1",
            "HOLDLINE_MODEL": "simulation",
            "HOLDLINE_SHUTDOWN_GRACE_SECONDS": str(GRACE_SECONDS),
            **environ,
        }
        options = {
            "environ": {name: value for name, value in given.items() if value},
            # The worker runs with a writable root, so that its writes can be seen.
            "writable": program == "worker",
            "flags": ("--tmpfs=/tmp",) if "HOLDLINE_PROCESSES" in environ else (),
        }
        name = f"holdline-{program}-{secrets.token_hex(4)}"
        self.started.append(self._containers.start(name, self._image, program, **options))
        return self.started[-1]

    async def ready(self, container: Container, port: int) -> None:
        """Waits until a program answers 200."""
        async with aiohttp.ClientSession() as http:

            async def answered() -> bool:
                running = (await asyncio.to_thread(lambda: container.state))["Running"]
                assert running, container.output
                try:
                    async with http.get(f"http://127.0.0.1:{port}/readyz") as response:
                        return response.status == 200
                except aiohttp.ClientError:
                    return False

            await wait_until(answered, 60)

    async def close(self) -> None:
        for container in self.started:
            await asyncio.to_thread(
                self._containers.podman, "rm", "--force", "--time", "0", container.name
            )
        if self._redis is not None:
            await self._redis.kill()


@pytest.fixture
async def deployment(
    containers: Containers, image: str, tmp_path: Path
) -> AsyncIterator[Deployment]:
    deployment = Deployment(containers, image, tmp_path)
    try:
        yield deployment
    finally:
        await deployment.close()


@pytest.mark.heavy
@pytest.mark.timeout(3600)
async def test_a_server_and_a_worker_serve_the_sdks_and_write_nothing(
    deployment: Deployment, containers: Containers
) -> None:
    await deployment.start_redis()
    port, worker_port = free_port(), free_port()
    async with FakeModel() as model:
        began = time.monotonic()
        server = deployment.start("server", HOLDLINE_PORT=str(port))
        await deployment.ready(server, port)
        print(f"server ready after {time.monotonic() - began:.1f} s")
        began = time.monotonic()
        worker = deployment.start(
            "worker",
            HOLDLINE_WORKER_PORT=str(worker_port),
            OPENAI_BASE_URL=model.url,
            OPENAI_API_KEY="test",
        )
        await deployment.ready(worker, worker_port)
        print(f"worker ready after {time.monotonic() - began:.1f} s")
        for container in (server, worker):
            status = Path(f"/proc/{container.state['Pid']}/status").read_text()
            assert re.search(r"^Uid:\t10001\t10001\t10001\t10001$", status, re.MULTILINE)
            assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
            # The program itself is the first process, so no shell swallows its signals.
            arguments = Path(f"/proc/{container.state['Pid']}/cmdline").read_bytes().split(b"\0")
            assert b"/opt/holdline/bin/holdline" == arguments[1]
            assert 0 == await container.health()

        url = f"http://127.0.0.1:{port}"
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
            answer = await client.responses.create(input="tokens=3", model="m")
            assert 3 == len(answer.output_text.split())
            later = await client.responses.create(input="tokens=5", model="m", background=True)
            stream = await client.responses.retrieve(later.id, stream=True, starting_after=1)
            kinds = [event.type async for event in stream]
            assert "response.completed" == kinds[-1]
        await node_sdk(url)

        # A response that runs when the worker stops may finish.
        async with aiohttp.ClientSession() as http:
            body = {"input": "tokens=8 mode=slow pace=0.5", "model": "m"}
            asked = asyncio.create_task(_asked(http, url, body))
            await wait_until(lambda: any("pace=0.5" in call.prompt for call in model.calls))
            began = time.monotonic()
            await worker.stop(2 * GRACE_SECONDS)
            assert "completed" == (await asked)["status"]
        await server.stop(2 * GRACE_SECONDS)
        assert time.monotonic() - began < GRACE_SECONDS
        for container in (server, worker):
            assert 0 == container.state["ExitCode"], container.output
            # Only the folders on which podman mounts its own files have changed.
            changed = containers.podman("diff", container.name).splitlines()
            assert [] == [
                line for line in changed if not re.fullmatch(r"[AC] /(run|etc)(/.*)?", line)
            ]


async def _asked(http: aiohttp.ClientSession, url: str, body: dict[str, str]) -> dict[str, str]:
    async with http.post(f"{url}/v1/responses", json=body) as response:
        answer: dict[str, str] = await response.json()
        return answer


async def node_sdk(url: str) -> None:
    """Runs the official Node SDK, if `make programs` has installed it."""
    modules = ROOT / "tests/programs/node_modules/openai"
    if shutil.which("node") is None or not modules.exists():
        print("the Node SDK is not installed: make programs")
        return
    prompts = ("tokens=3", "tokens=5", "tokens=7", 'mode=call args={"location":"Bern"}', "tokens=9")
    environ = {**os.environ, "BASE_URL": f"{url}/v1", "NO_PROXY": "127.0.0.1"}
    saw = json.loads(await run_command("node", str(NODE_SDK), *prompts, environ=environ))
    assert "completed" == saw["ended"]
    assert 3 == len(saw["plain"].split())
    assert saw["streamed"] == saw["final"]


@pytest.mark.heavy
@pytest.mark.timeout(3600)
async def test_the_health_check_tells_a_ready_server_and_worker_from_others(
    deployment: Deployment,
) -> None:
    ports = {"server": free_port(), "worker": free_port()}
    running = {
        "server": deployment.start(
            "server", HOLDLINE_PORT=str(ports["server"]), HOLDLINE_PROCESSES="2"
        ),
        "worker": deployment.start(
            "worker", HOLDLINE_WORKER_PORT=str(ports["worker"]), OPENAI_API_KEY="test"
        ),
    }
    for program, container in running.items():
        assert 1 == await container.health()
        assert 1 == await container.exec("holdline", "probe", program)
    redis = await deployment.start_redis()
    for program, container in running.items():
        await deployment.ready(container, ports[program])
        assert 0 == await container.health()
    await redis.kill()
    for container in running.values():
        await wait_until(functools.partial(_is_unhealthy, container), 60)
        assert 0 == await container.exec("holdline", "probe", "--live")
        await container.stop(60)
        assert 0 == container.state["ExitCode"], container.output


async def _is_unhealthy(container: Container) -> bool:
    return 1 == await container.health()


@pytest.mark.heavy
@pytest.mark.timeout(3600)
async def test_other_commands_run_in_the_image_and_errors_are_one_line(
    deployment: Deployment, containers: Containers
) -> None:
    await deployment.start_redis()

    async def run(*arguments: str, **environ: str) -> tuple[int, str]:
        name = f"holdline-command-{secrets.token_hex(4)}"
        container = containers.start(
            name, IMAGE, *arguments, environ={**deployment.environ, **environ}
        )
        deployment.started.append(container)
        await wait_until(lambda: not container.state["Running"], 60)
        return container.state["ExitCode"], container.output

    status, output = await run("keys", "create", "acme", HOLDLINE_API_KEYS="redis")
    assert 0 == status, output
    assert re.search(r"^hl_\w+", output, re.MULTILINE)
    status, output = await run("server")
    assert (INVALID_SETTINGS, 1) == (status, output.count("\n")), output
    assert "set HOLDLINE_API_KEYS" in output
