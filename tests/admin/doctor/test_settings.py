"""Tests that the doctor finds settings that are invalid, risky, or unfit for production."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from admin.doctor import settings
from admin.doctor.findings import SERVER, WORKER, Context, Finding, Level
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.admin.doctor.single_check import FINE, assert_actionable, finding_of, findings_of

BROKEN, WARNING, OK = Level.BROKEN, Level.WARNING, Level.OK
# An environment without any warning.
SAFE = {
    "HOLDLINE_API_KEYS": "redis",
    "HOLDLINE_TENANT_REQUESTS_PER_MINUTE": "600",
}


async def valid(environ: dict[str, str], *programs: str) -> list[Finding]:
    context = Context(environ, programs or (SERVER, WORKER))
    return [finding async for finding in settings.valid(context)]


async def test_valid_settings_need_no_action() -> None:
    assert [OK, OK] == [finding.level for finding in await valid(FINE)]
    assert [OK] == [finding.level for finding in await findings_of(settings.production, SAFE)]


async def test_an_invalid_setting_is_named_for_each_program_that_reads_it() -> None:
    server, worker = await valid({**FINE, "HOLDLINE_LEASE_SECONDS": "999"})
    for finding, command in ((server, "server"), (worker, "worker")):
        assert_actionable(finding, BROKEN, "HOLDLINE_LEASE_SECONDS must be between 0.1 and 600")
        assert f"holdline check --program {command}" == finding.command


async def test_only_the_settings_of_the_named_program_are_read() -> None:
    without_model = {"HOLDLINE_MODEL": "m"}
    assert [OK] == [finding.level for finding in await valid(without_model, SERVER)]
    [finding] = await valid(without_model, WORKER)
    assert_actionable(finding, BROKEN, "no model is configured")


async def test_a_service_link_is_named() -> None:
    first, *_ = await valid({**FINE, "HOLDLINE_PORT": "tcp://10.0.0.1:8080"})
    assert_actionable(first, WARNING, "HOLDLINE_PORT is ignored")


WEBHOOK = {
    "HOLDLINE_WEBHOOK_URL": "https://hook.example",
    "HOLDLINE_WEBHOOK_SECRET": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
}
OPEN = {"HOLDLINE_HOST": "0.0.0.0", "HOLDLINE_SHUTDOWN_DELAY_SECONDS": "3"}


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({"HOLDLINE_API_KEYS": ""}, "the server does not authenticate clients"),
        ({"HOLDLINE_ALLOWED_ORIGINS": "null"}, "HOLDLINE_ALLOWED_ORIGINS contains null"),
        ({"HOLDLINE_TRUSTED_PROXIES": "0.0.0.0/0"}, "trusts every address"),
        ({"HOLDLINE_TRUSTED_PROXIES": "10.0.0.1,::/0"}, "trusts every address"),
        ({"HOLDLINE_TENANT_REQUESTS_PER_MINUTE": ""}, "tenants have no limits"),
        ({"HOLDLINE_HOST": "0.0.0.0"}, "HOLDLINE_SHUTDOWN_DELAY_SECONDS is 0"),
        (OPEN, "prompts and answers in Redis are not encrypted"),
        ({"HOLDLINE_LEASE_SECONDS": "1"}, "HOLDLINE_LEASE_SECONDS is 1"),
        ({"HOLDLINE_MAX_BODY_BYTES": "8000000"}, "exceeds HOLDLINE_MAX_CONTEXT_BYTES"),
        ({"HOLDLINE_JWKS_URL": "https://id.example/keys"}, "without HOLDLINE_JWT_ISSUER"),
        ({"HOLDLINE_JWT_MAX_SECONDS": "86400"}, "HOLDLINE_JWT_MAX_SECONDS is 86400"),
        ({"HOLDLINE_FIRST_TOKEN_SECONDS": "901"}, "first token (901 s) exceeds"),
        ({"HOLDLINE_MAX_UNSENT_BYTES": "5000000"}, "exceeds HOLDLINE_MAX_OUTPUT_BYTES"),
        (WEBHOOK | {"HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1"}, "webhooks may go to private"),
        (
            WEBHOOK | {"HOLDLINE_PUSH_DEVICES": "1", "HOLDLINE_PUSH_ALLOW_PRIVATE": "1"},
            "pushes may go to private addresses",
        ),
        (WEBHOOK | {"HOLDLINE_ON_ORPHAN": "cancel"}, "HOLDLINE_ON_ORPHAN=cancel has no effect"),
    ],
)
async def test_a_risky_setting_is_named_with_what_to_type(
    changed: dict[str, str], seen: str
) -> None:
    [finding] = [
        finding
        for finding in await findings_of(settings.production, SAFE | changed)
        if seen in finding.seen
    ]
    assert_actionable(finding, WARNING, seen)


async def test_private_addresses_concern_no_promise() -> None:
    allowed = {"HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1", "HOLDLINE_PUSH_ALLOW_PRIVATE": "1"}
    environ = SAFE | WEBHOOK | {"HOLDLINE_PUSH_DEVICES": "1"} | allowed
    found = [
        finding.promise
        for finding in await findings_of(settings.production, environ)
        if "private addresses" in finding.seen
    ]
    assert found == ["", ""]


async def test_a_model_of_the_models_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[models.fast]\nbase_url = "http://127.0.0.1:1/v1"\n'
        "timeout_seconds = 10\nfirst_token_seconds = 20\n"
    )
    changed = {"HOLDLINE_MODELS": str(file), "HOLDLINE_MODEL": ""}
    [finding] = await findings_of(settings.production, SAFE | changed)
    assert_actionable(finding, WARNING, "[models.fast] the limit for the first token (20 s)")


async def test_another_encryption_key_than_that_of_the_other_processes_is_a_risk(
    pipe: Pipe, redis_url: str, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(base64.b64encode(bytes(32)).decode() + "\nplain\n")
    environ = {"REDIS_URL": redis_url, "HOLDLINE_ENCRYPTION_KEYS": str(keys)}
    assert OK is (await finding_of(settings.encryption, environ)).level
    await pipe.call("SET", Partition(0).cipher, "plain", "PX", 60_000)
    finding = await finding_of(settings.encryption, environ)
    assert_actionable(finding, WARNING, "the last started process encrypts with plain")
    assert OK is (await finding_of(settings.encryption, {"REDIS_URL": redis_url})).level
