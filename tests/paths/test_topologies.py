"""More than one Redis: a cluster, a master that Sentinels name, and one behind TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import json
import os
import ssl
import subprocess
import sys
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
from tests.paths.topologies.several import cluster, watched
from tests.system import ROOT, Server, System, wait_until

pytestmark = pytest.mark.timeout(90)

PARTITIONS = 9
SLOW = "mode=slow tokens=60 pace=0.05"
# What a failover may have lost, and says so.
LOST = {"response_gone", "response_rolled_back"}


@contextlib.asynccontextmanager
async def site(url: str, folder: Path, **environ: str) -> AsyncIterator[tuple[Server, FakeModel]]:
    """A server and two workers on what is at this address."""
    async with FakeModel() as model, System(url, folder) as system:
        system.environ |= environ
        server, _ = await asyncio.gather(
            system.server(), asyncio.gather(*(system.worker(model.url) for _ in range(2)))
        )
        yield server, model


async def asked(shown: SocketClient, count: int, script: str) -> list[Answer]:
    return [await shown.ask(f"nr={time.monotonic_ns()} {script}") for _ in range(count)]


async def all_whole(answers: list[Answer], model: FakeModel, *, calls: int = 1) -> None:
    """Each ends, without a gap, and with what its last call said."""
    await asyncio.gather(*(answer.wait_for_end(30) for answer in answers))
    for answer in answers:
        assert None is answer.problem
        assert list(range(len(answer.events))) == [e["sequence_number"] for e in answer.events]
        assert "completed" == answer.events[-1]["response"]["status"]
        said = [call.sent for call in model.calls if call.prompt == answer.prompt]
        assert (calls, answer.text) == (len(said), said[-1])


async def ran(url: str, *arguments: str) -> str:
    """What a command of ours prints."""
    command = (sys.executable, "-m", *arguments)
    environ = {"REDIS_URL": url, "HOLDLINE_PARTITIONS": str(PARTITIONS), "HOLDLINE_MODEL": "m"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=os.environ | environ, stdout=subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert 0 == process.returncode
    return said.decode()


def master_of(answer: Answer, nodes: list[Store]) -> Store:
    """The node that has an answer, as the slots were dealt."""
    slot = key_slot(Partition(partition_of(answer.id)).job(answer.id).encode())
    return nodes[min(slot // (16_384 // len(nodes)), len(nodes) - 1)]


async def test_a_cluster_carries_answers_on_all_its_masters(tmp_path: Path) -> None:
    async with (
        cluster() as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS=str(PARTITIONS)) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await asked(shown, 40, "tokens=20 pace=0.01")
        await all_whole(answers, model)
        used = {master_of(answer, nodes.masters).port for answer in answers}
        assert {node.port for node in nodes.masters} == used
        for node in nodes.masters:
            assert 0 < await node.call("DBSIZE")
        said = await ran(nodes.url, "admin.subject", "export", "public")
        assert {answer.id for answer in answers} == {
            json.loads(line)["response"]["id"] for line in said.splitlines()
        }
        waits = await shown.ask("mode=silent")
        await wait_until(lambda: waits.events and model.open_calls)
        await shown.cancel(waits)
        await waits.wait_for_end()
        assert "cancelled" == waits.events[-1]["response"]["status"]


async def test_a_slot_that_moves_to_another_master_is_followed(tmp_path: Path) -> None:
    async with (
        cluster() as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS="1") as (server, model),
        socket_client(server) as shown,
    ):
        answers = await asked(shown, 5, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(5) for answer in answers))
        giver = master_of(answers[0], nodes.masters)
        taker = next(node for node in nodes.masters if node is not giver)
        slot = key_slot(Partition(0).wake.encode())
        await nodes.move(slot, giver, taker)
        await all_whole(answers, model)
        await all_whole(await asked(shown, 5, "tokens=5"), model)
        assert [] == await giver.call("CLUSTER", "GETKEYSINSLOT", slot, 1)
        assert [] != await taker.call("CLUSTER", "GETKEYSINSLOT", slot, 1)


async def test_what_one_emptied_master_of_a_cluster_had_is_said_to_be_lost(tmp_path: Path) -> None:
    async with (
        cluster() as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS=str(PARTITIONS)) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await asked(shown, 12, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(3) for answer in answers))
        emptied = master_of(answers[0], nodes.masters)
        await emptied.call("FLUSHALL")
        lost = [answer for answer in answers if master_of(answer, nodes.masters) is emptied]
        await asyncio.gather(*(answer.wait_for_end(6) for answer in lost))
        assert {"response_gone"} == {answer.code for answer in lost}
        await all_whole([answer for answer in answers if answer not in lost], model)


async def test_a_replica_that_takes_over_in_a_cluster_is_found(tmp_path: Path) -> None:
    async with (
        cluster(replicas=True) as nodes,
        site(nodes.url, tmp_path, HOLDLINE_PARTITIONS=str(PARTITIONS)) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await asked(shown, 12, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(5) for answer in answers))
        dead = master_of(answers[0], nodes.masters)
        await dead.kill()
        await asyncio.gather(*(answer.wait_for_end(40) for answer in answers))
        assert all(answer.ended or answer.code in LOST for answer in answers)
        live = [answer for answer in answers if master_of(answer, nodes.masters) is not dead]
        assert all(answer.ended for answer in live)
        await all_whole(await asked(shown, 20, "tokens=5"), model)


async def test_a_replica_that_sentinels_have_made_master_is_found(tmp_path: Path) -> None:
    async with (
        watched(tmp_path) as (url, master, replica),
        site(url, tmp_path) as (server, model),
        socket_client(server) as shown,
    ):
        answers = await asked(shown, 6, SLOW)
        await asyncio.gather(*(answer.wait_for_tokens(5) for answer in answers))
        await master.kill()
        await asyncio.gather(*(answer.wait_for_end(40) for answer in answers))
        assert all(answer.ended or answer.code in LOST for answer in answers)
        assert [b"master"] == (await replica.call("ROLE"))[:1]
        await all_whole(await asked(shown, 5, "tokens=5"), model)


@contextlib.asynccontextmanager
async def tls_in_front(store: Store, folder: Path) -> AsyncIterator[str]:
    """The address of a Redis that is reached by TLS alone, with a certificate of its own."""
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
            await asyncio.gather(copied(reader, there[1]), copied(there[0], writer))
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


async def copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def self_signed(folder: Path) -> Path:
    """The file of a certificate for 127.0.0.1; its key is beside it."""
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


async def test_a_redis_behind_tls_with_a_password_carries_answers(tmp_path: Path) -> None:
    async with (
        stores.running(tcp=True) as store,
        tls_in_front(store, tmp_path) as url,
    ):
        await store.call("CONFIG", "SET", "requirepass", "secret")
        async with site(url, tmp_path) as (server, model), socket_client(server) as shown:
            await all_whole(await asked(shown, 5, "tokens=20 pace=0.01"), model)
