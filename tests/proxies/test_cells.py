"""Tests that a proxy finds the cell of a response by its id, with the configuration in the docs."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from command.up.redis import embedded_redis
from jobs.names import partition_of
from tests.fake_model import FakeModel
from tests.proxies.fronted import command
from tests.system import ROOT, Server, System, free_port, wait_until

PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (\d+) \| (\d+) \| `resp_(\w)…`", re.MULTILINE)


@contextlib.asynccontextmanager
async def run_nginx(folder: Path, ports: list[int]) -> AsyncIterator[str]:
    """Starts nginx with the documented configuration in front of the cells' servers."""
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    front = free_port()
    found = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    text = found[1].replace("listen 8443", f"listen 127.0.0.1:{front}")
    for documented, port in zip(("127.0.0.1:8080", "127.0.0.1:8081"), ports, strict=True):
        assert documented in text
        text = text.replace(documented, f"127.0.0.1:{port}")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(f"events {{}}\nhttp {{\naccess_log off;\n{places}{text}}}\n")
    process = subprocess.Popen(command("nginx", folder, config))
    try:
        async with aiohttp.ClientSession() as http:

            async def is_up() -> bool:
                assert process.poll() is None, (folder / "nginx.log").read_text()
                with contextlib.suppress(aiohttp.ClientConnectorError):
                    async with http.get(f"http://127.0.0.1:{front}/livez") as answer:
                        return answer.status == 200
                return False

            await wait_until(is_up)
        yield f"http://127.0.0.1:{front}"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 10)


@contextlib.asynccontextmanager
async def run_cell(folder: Path, model: FakeModel, first: str, count: str) -> AsyncIterator[Server]:
    folder.mkdir()
    async with embedded_redis() as url, System(url, folder) as system:
        system.environ |= {"HOLDLINE_FIRST_PARTITION": first, "HOLDLINE_PARTITIONS": count}
        server, _ = await asyncio.gather(system.server(), system.worker(model.url))
        yield server


@pytest.mark.heavy
@pytest.mark.timeout(90)
async def test_the_workers_of_a_cell_rescue_the_jobs_of_its_partitions(tmp_path: Path) -> None:
    async with (
        FakeModel() as model,
        embedded_redis() as url,
        System(url, tmp_path) as system,
        aiohttp.ClientSession() as http,
    ):
        system.environ |= {"HOLDLINE_FIRST_PARTITION": "256", "HOLDLINE_PARTITIONS": "24"}
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        asked = {"input": "mode=slow tokens=60 pace=0.05", "background": True}
        async with http.post(f"{server.url}/v1/responses", json=asked) as reply:
            place = f"{server.url}/v1/responses/{(await reply.json())['id']}"
        await wait_until(lambda: model.calls)
        await worker.kill()
        await system.worker(model.url)

        async def completed() -> bool:
            async with http.get(place) as found:
                return bool("completed" == (await found.json())["status"])

        await wait_until(completed, 40)
        assert 2 == len(model.calls)


@pytest.mark.timeout(90)
async def test_a_proxy_routes_by_the_partition_in_an_id(tmp_path: Path) -> None:
    cells = ROW.findall(PAGE)
    assert ["eu", "us"] == [name for name, *_ in cells]
    async with (
        contextlib.AsyncExitStack() as stack,
        FakeModel() as model,
        aiohttp.ClientSession() as http,
    ):
        running = [run_cell(tmp_path / name, model, low, n) for name, low, n, _ in cells]
        servers = [await stack.enter_async_context(cell) for cell in running]
        ports = [int(server.url.rpartition(":")[2]) for server in servers]
        front = await stack.enter_async_context(run_nginx(tmp_path, ports))

        async def get(url: str) -> tuple[int, dict[str, str]]:
            async with http.get(url) as reply:
                return reply.status, await reply.json()

        for server, (_, first, count, digit) in zip(servers, cells, strict=True):
            async with http.post(
                f"{server.url}/v1/responses", json={"input": "tokens=3", "conversation": None}
            ) as reply:
                made = await reply.json()
            assert "completed" == made["status"]
            id_ = made["id"]
            assert partition_of(id_) in range(int(first), int(first) + int(count))
            assert id_.startswith(f"resp_{digit}")
            status, found = await get(f"{front}/v1/responses/{id_}")
            assert (200, id_) == (status, found["id"])
            assert 200 == (await get(f"{front}/v1/responses/{id_}/input_items"))[0]
            elsewhere = next(other for other in servers if other is not server)
            assert 404 == (await get(f"{elsewhere.url}/v1/responses/{id_}"))[0]
            async with http.post(f"{server.url}/v1/conversations", json={}) as reply:
                conversation = (await reply.json())["id"]
            assert conversation.startswith(f"conv_{digit}")
            assert 200 == (await get(f"{front}/v1/conversations/{conversation}"))[0]
            assert 404 == (await get(f"{elsewhere.url}/v1/conversations/{conversation}"))[0]
        async with http.post(f"{front}/v1/responses", json={"input": "tokens=3"}) as reply:
            assert (await reply.json())["id"].startswith("resp_0")  # the cell of this region
