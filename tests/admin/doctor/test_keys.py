"""Tests that the doctor finds keys that are missing, expired, unreadable or readable by others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from admin import keys as key_command
from admin.doctor import keys
from admin.doctor.findings import Level
from admin.signers import new_pair
from jobs.redis.pipe import Pipe
from server.access import api_keys
from tests.admin.doctor.single_check import assert_actionable, finding_of, findings_of
from tests.commands import lines
from tests.system import free_port

BROKEN, WARNING, OK, UNKNOWN = Level.BROKEN, Level.WARNING, Level.OK, Level.UNKNOWN
DAY = 86_400.0


@pytest.fixture
def environ(redis_url: str) -> dict[str, str]:
    return {"REDIS_URL": redis_url, "HOLDLINE_API_KEYS": "redis"}


async def create(environ: dict[str, str], *options: str) -> str:
    [shown] = [each async for each in lines(environ, "keys", "create", "acme", *options)]
    return shown.split("_")[1]


async def expire(environ: dict[str, str], id_: str, seconds: float) -> None:
    """Lets a key expire in so many seconds."""
    async with key_command.store(environ) as store:
        before = (await store.all())[id_]
        record = api_keys.decode(before)
        after = api_keys.encode(
            type(record)(
                id=record.id,
                tenant=record.tenant,
                scopes=record.scopes,
                secrets=record.secrets,
                expires_at=time.time() + seconds,
            )
        )
        await store.put(id_, before, after)


async def test_keys_of_services_that_expire_are_named(environ: dict[str, str]) -> None:
    finding = await finding_of(keys.of_services, environ)
    assert_actionable(finding, BROKEN, "there is no valid API key, and no other way")
    first, second = await create(environ), await create(environ, "--expires", "90d")
    assert OK is (await finding_of(keys.of_services, environ)).level
    await expire(environ, first, 3 * DAY)
    finding = await finding_of(keys.of_services, environ)
    assert_actionable(finding, WARNING, f"API keys that expire within 14 days: {first}")
    await expire(environ, first, -1)
    finding = await finding_of(keys.of_services, environ)
    assert_actionable(finding, WARNING, f"expired API keys: {first}")
    assert f"holdline keys revoke {first}" == finding.command
    await expire(environ, second, -1)
    finding = await finding_of(keys.of_services, environ)
    assert_actionable(finding, BROKEN, "there is no valid API key")
    with_tokens = environ | {"HOLDLINE_JWKS_URL": "https://id.example/keys"}
    assert WARNING is (await finding_of(keys.of_services, with_tokens)).level


async def test_keys_that_cannot_be_read_are_unknown(
    environ: dict[str, str], pipe: Pipe, tmp_path: Path
) -> None:
    await pipe.call("HSET", "holdline:{0}:api_keys", "x", "canary")
    await pipe.call("PEXPIRE", "holdline:{0}:api_keys", 60_000)
    finding = await finding_of(keys.of_services, environ)
    assert_actionable(finding, UNKNOWN, "the API keys cannot be read")
    assert "canary" not in f"{finding}"
    away = {"REDIS_URL": f"redis://:canary@127.0.0.1:{free_port()}/0", "HOLDLINE_API_KEYS": "redis"}
    finding = await finding_of(keys.of_services, away)
    assert_actionable(finding, UNKNOWN, "no connection to Redis")
    assert [] == await findings_of(keys.of_services, {"REDIS_URL": environ["REDIS_URL"]})


@pytest.mark.heavy
async def test_a_file_without_signing_keys_breaks_a_promise(tmp_path: Path) -> None:
    file = tmp_path / "signers.json"
    file.write_text('{"keys": []}')
    finding = await finding_of(keys.of_signers, {"HOLDLINE_JWT_KEYS": str(file)})
    assert_actionable(finding, BROKEN, "HOLDLINE_JWT_KEYS contains no key")
    file.write_text(json.dumps({"keys": [new_pair("a", "EdDSA", None)[1]]}))
    finding = await finding_of(keys.of_signers, {"HOLDLINE_JWT_KEYS": str(file)})
    assert (OK, "signing keys: 1") == (finding.level, finding.seen.partition(";")[0])


class KeySet(BaseHTTPRequestHandler):
    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), KeySet) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/keys"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("body", "level"), [(b'{"keys": []}', OK), (b"<html>", BROKEN), (b'{"keys": 5}', BROKEN)]
)
async def test_the_key_set_of_an_identity_provider_is_fetched(
    provider: str, monkeypatch: pytest.MonkeyPatch, body: bytes, level: Level
) -> None:
    monkeypatch.setattr(KeySet, "body", body)
    finding = await finding_of(keys.of_signers, {"HOLDLINE_JWKS_URL": provider})
    assert level is finding.level
    if level is BROKEN:
        assert_actionable(finding, BROKEN, "HOLDLINE_JWKS_URL returns no valid key set")


@pytest.mark.parametrize(
    ("key", "level", "seen"),
    [
        ("canary-key", OK, "can be read"),
        ('{"access_token": "canary-key", "expires_in": 3600}', OK, "can be read"),
        ('{"token": "canary-key", "expires_on": 1000000000}', BROKEN, "has expired"),
        ('{"access_token": "canary-key", "expires_in": 60}', WARNING, "expires in"),
        (None, BROKEN, "api_key_file: the file cannot be read"),
        ('{"canary": 5}', BROKEN, "api_key_file:"),
    ],
)
async def test_the_key_of_a_model_is_read(
    tmp_path: Path, key: str | None, level: Level, seen: str
) -> None:
    secret, models = tmp_path / "key", tmp_path / "models.toml"
    if key is not None:
        secret.write_text(key)
    models.write_text(
        f'[models.fast]\nbase_url = "http://127.0.0.1:1/v1"\napi_key_file = "{secret}"\n'
    )
    settings = {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
    finding = await finding_of(keys.of_models, settings)
    assert (level, True) == (finding.level, seen in finding.seen), finding
    assert "canary" not in f"{finding}"


@pytest.mark.parametrize(
    ("command", "level", "seen"),
    [
        ('["echo", "canary-key"]', OK, "prints a key"),
        ('["false"]', BROKEN, "exited with status 1"),
        ('["no-such-program-here"]', BROKEN, "cannot be run"),
    ],
)
async def test_the_command_that_prints_a_key_is_run(
    tmp_path: Path, command: str, level: Level, seen: str
) -> None:
    models = tmp_path / "models.toml"
    models.write_text(
        f'[models.fast]\nbase_url = "http://127.0.0.1:1/v1"\napi_key_command = {command}\n'
    )
    settings = {"HOLDLINE_MODELS": str(models), "HOLDLINE_MODEL": ""}
    finding = await finding_of(keys.of_models, settings)
    assert (level, True) == (finding.level, seen in finding.seen), finding
    assert "canary" not in f"{finding}"


@pytest.mark.parametrize(
    ("name", "content", "mode", "seen"),
    [
        ("HOLDLINE_ENCRYPTION_KEYS", "plain\n", 0o600, ""),
        ("HOLDLINE_ENCRYPTION_KEYS", "plain\n", 0o640, "has the mode 640"),
        ("HOLDLINE_JWT_KEYS", "HS256", 0o644, "has the mode 644"),
        ("HOLDLINE_JWT_KEYS", "EdDSA", 0o644, ""),
        ("HOLDLINE_JWT_KEYS", "EdDSA", 0o666, "has the mode 666"),
        ("HOLDLINE_API_KEYS", '{"keys": []}', 0o644, ""),
        ("HOLDLINE_API_KEYS", '{"keys": []}', 0o646, "has the mode 646"),
        ("HOLDLINE_MODELS", "", 0o646, "has the mode 646"),
    ],
)
async def test_files_that_other_users_can_read_or_replace_are_named(
    tmp_path: Path, name: str, content: str, mode: int, seen: str
) -> None:
    file = tmp_path / "file"
    if content in ("HS256", "EdDSA"):
        content = json.dumps({"keys": [new_pair("a", content, None)[1]]})
    file.write_text(content)
    file.chmod(mode)
    finding = await finding_of(keys.files, {name: str(file)})
    if seen:
        assert_actionable(finding, WARNING, seen)
        assert str(file) in finding.command
    else:
        assert OK is finding.level


async def test_a_missing_file_is_unknown(tmp_path: Path) -> None:
    finding = await finding_of(keys.files, {"HOLDLINE_API_KEYS": str(tmp_path / "none")})
    assert_actionable(finding, UNKNOWN, "cannot be read: FileNotFoundError")
