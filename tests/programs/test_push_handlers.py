"""Runs the documented function that passes pushes on to APNs and FCM, with simulated services."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.programs.running import HERE, PYTHON, output_of
from tests.system import clean_environ

DEVICE = "0a1b2c3d" * 8


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Writes a certificate for 127.0.0.1 and its key, and returns their paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "push services")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


async def test_the_documented_function_passes_pushes_on(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    services = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "push_services.mjs"),
        str(certificate),
        str(key),
        env=clean_environ(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert services.stdout is not None
    try:
        async with asyncio.timeout(20):
            port = (await services.stdout.readline()).decode().strip()
        devices = [f"apns:{DEVICE}", "apns:gone", "fcm:a:b", "fcm:gone"]
        output = await output_of(
            str(PYTHON),
            str(HERE / "push_handlers.py"),
            *devices,
            PORT=port,
            SSL_CERT_FILE=str(certificate),
        )
        seen = [json.loads(await services.stdout.readline()) for _ in devices]
    finally:
        services.kill()
        await services.wait()
    assert [200, 410, 200, 410] == json.loads(output)
    assert ["", "Unregistered", "", "UNREGISTERED"] == [each["reason"] for each in seen]
    assert f"/3/device/{DEVICE}" == seen[0]["path"]
    assert "a:b" == seen[2]["body"]["message"]["token"]
    ids = {seen[0]["body"]["response_id"], seen[2]["body"]["message"]["data"]["response_id"]}
    assert ids == {"resp_000" + "0" * 32}
