"""Tests a Redis cluster, Redis with Sentinels, and Redis behind TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.crc import key_slot

from jobs.names import Partition, partition_of
from tests.fake_model import FakeModel
from tests.paths.redis_faults import store as stores
from tests.paths.redis_faults.clients import Answer, SocketClient, socket_client
from tests.paths.redis_faults.store import Store
from tests.paths.topologies.several import cluster, migrate_keys, with_sentinels
from tests.system import ROOT, Server, System, module_command, wait_until

pytestmark = pytest.mark.timeout(90)

PARTITIONS = 9
SLOW = "mode=slow tokens=60 pace=0.05"
# The error codes that report events lost in a failover.
LOST = {"response_gone", "response_rolled_back"}


@contextlib.asynccontextmanager
async def site(url: str, folder: Path, **environ: str) -> AsyncIterator[tuple[Server, FakeModel]]:
    """Starts a server and two workers on the Redis at `url`."""
    async with FakeModel() as model, System(url, folder) as system:
        system.environ |= environ
        server, _ = await asyncio.gather(
            system.server(), asyncio.gather(*(system.worker(model.url) for _ in range(2)))
        )
        yield server, model


async def send_prompts(shown: SocketClient, count: int, script: str) -> list[Answer]:
    return [await shown.ask(f"nr={time.monotonic_ns()} {script}") for _ in range(count)]


async def assert_all_complete(answers: list[Answer], model: FakeModel, *, calls: int = 1) -> None:
    """Asserts that each answer ends without a gap and with the text of its last model call."""
    await asyncio.gather(*(answer.wait_for_end(30) for answer in answers))
    for answer in answers:
        assert None is answer.problem
        assert list(range(len(answer.events))) == [e["sequence_number"] for e in answer.events]
        assert "completed" == answer.events[-1]["response"]["status"]
        sent = [call.sent for call in model.calls if call.prompt == answer.prompt]
        assert (calls, answer.text) == (len(sent), sent[-1])


async def run_command(url: str, *arguments: str) -> str:
    """Runs one of Holdline's commands and returns its output."""
    command = (*module_command("command"), *arguments)
    environ = {"REDIS_URL": url, "HOLDLINE_PARTITIONS": str(PARTITIONS), "HOLDLINE_MODEL": "m"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=os.environ | environ, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert 0 == process.returncode
    return output.decode()


def master_of(answer: Answer, nodes: list[Store]) -> Store:
    """Returns the master that stores an answer, provided that no slot has moved."""
    slot = key_slot(Partition(partition_of(answer.id)).job(answer.id).encode())
    return nodes[min(slot // (16_384 // len(nodes)), len(nodes) - 1)]


async def test_answers_are_spread_over_all_masters_of_a_cluster(tmp_path: Path) -> None:
    async with (
        cluster() as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS=str(PARTITIONS)) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await send_prompts(shown, 40, "tokens=20 pace=0.01")
        await assert_all_complete(answers, model)
        used = {master_of(answer, nodes.masters).port for answer in answers}
        assert {node.port for node in nodes.masters} == used
        for node in nodes.masters:
            assert 0 < await node.call("DBSIZE")
        output = await run_command(nodes.url, "subject", "export", "public")
        assert {answer.id for answer in answers} == {
            json.loads(line)["response"]["id"] for line in output.splitlines()
        }
        waits = await shown.ask("mode=silent")
        await wait_until(lambda: waits.events and model.open_calls)
        await shown.cancel(waits)
        await waits.wait_for_end()
        assert "cancelled" == waits.events[-1]["response"]["status"]


@pytest.mark.parametrize("how", ["at once", pytest.param("key by key", marks=pytest.mark.heavy)])
async def test_answers_continue_when_their_slot_moves_to_another_master(
    tmp_path: Path, how: str
) -> None:
    async with (
        cluster() as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS="1") as (server, model),
        socket_client(server) as shown,
    ):
        answers = await send_prompts(shown, 5, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(5) for answer in answers))
        source = master_of(answers[0], nodes.masters)
        target = next(node for node in nodes.masters if node is not source)
        slot = key_slot(Partition(0).queues.encode())
        if how == "at once":
            await nodes.move(slot, source, target)
        else:
            await nodes.begin_move(slot, source, target)
            for _ in range(5):
                assert await migrate_keys(slot, source, target, 2)
                await asyncio.sleep(0.2)  # meanwhile, the model continues to write
            await nodes.end_move(slot, source, target)
        await assert_all_complete(answers, model)
        await assert_all_complete(await send_prompts(shown, 5, "tokens=5"), model)
        assert [] == await source.call("CLUSTER", "GETKEYSINSLOT", slot, 1)
        assert [] != await target.call("CLUSTER", "GETKEYSINSLOT", slot, 1)


@pytest.mark.heavy
async def test_flushing_one_master_of_a_cluster_ends_its_answers_with_response_gone(
    tmp_path: Path,
) -> None:
    async with (
        cluster() as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS=str(PARTITIONS)) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await send_prompts(shown, 12, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(3) for answer in answers))
        emptied = master_of(answers[0], nodes.masters)
        await emptied.call("FLUSHALL")
        lost = [answer for answer in answers if master_of(answer, nodes.masters) is emptied]
        await asyncio.gather(*(answer.wait_for_end(6) for answer in lost))
        assert {"response_gone"} == {answer.code for answer in lost}
        await assert_all_complete([answer for answer in answers if answer not in lost], model)


async def test_answers_continue_after_a_cluster_failover(tmp_path: Path) -> None:
    async with (
        cluster(replicas=True) as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS=str(PARTITIONS)) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await send_prompts(shown, 12, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(5) for answer in answers))
        dead = master_of(answers[0], nodes.masters)
        await dead.kill()
        await asyncio.gather(*(answer.wait_for_end(40) for answer in answers))
        assert all(answer.ended or answer.code in LOST for answer in answers)
        live = [answer for answer in answers if master_of(answer, nodes.masters) is not dead]
        assert all(answer.ended for answer in live)
        await assert_all_complete(await send_prompts(shown, 20, "tokens=5"), model)


async def test_answers_continue_after_a_sentinel_failover(tmp_path: Path) -> None:
    async with (
        with_sentinels(tmp_path) as (url, master, replica),
        site(url, tmp_path) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await send_prompts(shown, 6, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(5) for answer in answers))
        await master.kill()
        await asyncio.gather(*(answer.wait_for_end(40) for answer in answers))
        assert all(answer.ended or answer.code in LOST for answer in answers)
        assert [b"master"] == (await replica.call("ROLE"))[:1]
        await assert_all_complete(await send_prompts(shown, 5, "tokens=5"), model)


@contextlib.asynccontextmanager
async def tls_in_front(store: Store, folder: Path) -> AsyncIterator[str]:
    """Serves a Redis over TLS with a self-signed certificate. Yields its URL."""
    certificate = self_signed(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, folder / "key.pem")
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there = await asyncio.open_connection("127.0.0.1", store.port)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
        tasks.discard(task)

    front = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        port = front.sockets[0].getsockname()[1]
        yield f"rediss://default:secret@127.0.0.1:{port}?ssl_ca_certs={certificate}"
    finally:
        front.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def self_signed(folder: Path) -> Path:
    """Creates a certificate for 127.0.0.1 with its key. Returns the certificate's path."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    file = folder / "certificate.pem"
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return file


async def test_a_redis_with_tls_and_a_password_works(tmp_path: Path) -> None:
    async with (
        stores.running(tcp=True) as store,
        tls_in_front(store, tmp_path) as url,
    ):
        await store.call("CONFIG", "SET", "requirepass", "secret")
        async with site(url, tmp_path) as (server, model), socket_client(server) as shown:
            await assert_all_complete(await send_prompts(shown, 5, "tokens=20 pace=0.01"), model)
