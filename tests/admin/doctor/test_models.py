"""Tests that the doctor finds endpoints that refuse, hang, lie or do not know the model."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from admin.doctor import models
from admin.doctor.findings import SERVER, Level
from tests.admin.doctor.single_check import assert_actionable, finding_of, findings_of
from tests.system import free_port
from worker.upstream import listed_models

BROKEN, WARNING, OK, UNKNOWN = Level.BROKEN, Level.WARNING, Level.OK, Level.UNKNOWN
LISTED = {"object": "list", "data": [{"id": "simulation", "object": "model"}]}


class Endpoint:
    """An HTTP server that sends one prepared reply to every request, and records the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.reply: bytes | None = b""
        self.requests: list[str] = []
        self._over = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if self.reply is None:
                await self._over.wait()
            else:
                writer.write(self.reply)
                await writer.drain()
        writer.close()

    def say(self, status: int, body: object) -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        head = f"HTTP/1.1 {status} x\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        self.reply = (head + text).encode()

    def end(self) -> None:
        self._over.set()


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    found = Endpoint()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    yield found
    found.end()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)


def environ(url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "canary-key"}


@pytest.mark.parametrize(
    ("status", "body", "level", "seen"),
    [
        (200, LISTED, OK, "the key is accepted and simulation is listed"),
        (200, {"data": [{"id": "other"}]}, WARNING, "does not list simulation"),
        (401, {"error": {"message": "canary-key is wrong"}}, BROKEN, "upstream_unauthorized"),
        (403, {"error": {"message": "canary-key is wrong"}}, BROKEN, "upstream_unauthorized"),
        (500, "canary-key", BROKEN, "upstream_unavailable"),
        (429, {"error": {"message": "slow down"}}, UNKNOWN, "upstream_busy"),
        (404, "not here", UNKNOWN, "replied with status 404"),
        (200, "<html>canary-key</html>", UNKNOWN, "the reply is not JSON"),
        (200, {"data": "canary-key"}, UNKNOWN, "the reply has no list of models"),
        (200, "null", UNKNOWN, "the reply has no list of models"),
        (200, [{"id": "simulation"}, 5, {"id": 7}], OK, "simulation is listed"),
        (200, "x" * 5_000_000, UNKNOWN, "more than 4194304 bytes"),
    ],
)
async def test_the_reply_of_an_endpoint_is_judged(
    endpoint: Endpoint, status: int, body: object, level: Level, seen: str
) -> None:
    endpoint.say(status, body)
    finding = await finding_of(models.endpoints, environ(endpoint.url))
    assert (level, True) == (finding.level, seen in finding.seen), finding
    assert "canary" not in f"{finding}"
    if level is not OK:
        assert_actionable(finding, level, seen)
    # The request is the list of models with the key, so no prompt is sent and no token is spent.
    head, *_ = endpoint.requests
    assert head.startswith("GET /v1/models HTTP/1.1\r\n")
    assert "Bearer canary-key" in head


async def test_an_endpoint_that_hangs_times_out(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "SECONDS", 0.3)
    endpoint.reply = None
    finding = await finding_of(models.endpoints, environ(endpoint.url))
    assert_actionable(finding, BROKEN, "upstream_timeout")


async def test_a_list_that_never_ends_times_out(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listed_models, "MAX_BYTES", 1000)
    endpoint.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"[" * 5000
    finding = await finding_of(models.endpoints, environ(endpoint.url))
    assert_actionable(finding, UNKNOWN, "more than 1000 bytes")


async def test_a_closed_port_and_a_wrong_password_in_the_url_stay_private() -> None:
    url = f"http://canary:canary@127.0.0.1:{free_port()}/v1"
    finding = await finding_of(models.endpoints, environ(url))
    assert_actionable(finding, BROKEN, "upstream_unavailable")
    assert "canary" not in f"{finding}"


async def test_each_model_of_the_models_file_is_asked_by_its_own_name(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.say(200, LISTED)
    file = tmp_path / "models.toml"
    file.write_text(
        f'[models.fast]\nbase_url = "{endpoint.url}"\nmodel = "simulation"\n'
        f'[models.large]\nbase_url = "{endpoint.url}"\napi_key_env = "LARGE"\n'
        'api_key_header = "api-key"\n'
        f'[models.away]\nbase_url = "http://127.0.0.1:{free_port()}/v1"\n'
    )
    settings = {"HOLDLINE_MODELS": str(file), "HOLDLINE_MODEL": "", "LARGE": "canary-large"}
    found = await findings_of(models.endpoints, settings)
    assert [OK, WARNING, BROKEN] == [finding.level for finding in found]
    assert ["fast", "large", "away"] == [finding.seen.split()[0] for finding in found]
    assert any("api-key: canary-large" in request for request in endpoint.requests)


async def test_only_workers_need_models() -> None:
    invalid = {"OPENAI_API_KEY": ""}
    assert [] == await findings_of(models.endpoints, invalid, (SERVER,))
    finding = await finding_of(models.endpoints, invalid)
    assert_actionable(finding, UNKNOWN, "the settings of the worker are invalid")
