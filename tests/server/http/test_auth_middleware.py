"""Tests API keys in a file and in Redis, and JWTs with keys from a file and from a URL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from admin.signers import new_pair
from jobs.redis.pipe import Pipe
from server.access import api_key_store, jwks
from server.access.principal import ADMIN, OF_ROUTES
from server.app import SERVER
from server.config import Config
from tests.commands import lines
from tests.error_codes import own_code
from tests.jobs.proxy import Proxy
from tests.server.auth_helpers import Credentials, bearer, unix

Client = TestClient[Request, Application]
Serve = Callable[..., Awaitable[Client]]
ALL = "/v1/responses"
MODELS = "/v1/models"


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    return Credentials(tmp_path)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables the caching of keys."""
    monkeypatch.setattr("runtime.watched_file.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(api_key_store, "FRESH_SECONDS", 0.0)


async def status(client: Client, credential: str | None, path: str = MODELS) -> int:
    headers = {} if credential is None else bearer(credential)
    async with client.get(path, headers=headers) as response:
        if response.status == 401:
            assert 'Bearer realm="holdline"' == response.headers["WWW-Authenticate"]
            error = (await response.json())["error"]
            assert error["code"] == "invalid_api_key"
            assert own_code(error) == (
                "authentication_required" if credential is None else "invalid_token"
            )
        return response.status


def test_every_api_route_declares_its_scope(serve: Serve) -> None:
    from server.app import create_app

    app = create_app(Config.from_environ({}))
    routes = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith("/v1/")
    }
    assert routes == set(OF_ROUTES), f"a route that is missing there needs {ADMIN}"


async def test_every_request_is_allowed_without_keys(serve: Serve) -> None:
    client = await serve()
    assert {200} == {await status(client, each) for each in (None, "any", "hl_x")}


async def test_requests_without_a_valid_key_are_refused(
    serve: Serve, credentials: Credentials
) -> None:
    key = credentials.key()
    client = await serve(**credentials.settings)
    assert (200, 200) == (await status(client, key), await status(client, credentials.token()))
    assert 401 == await status(client, None)
    for bad in ("x", key[:-1], f"{key}a", key.replace("hl_", "HL_"), "hl_", "x" * 5000, "a.b.c"):
        assert 401 == await status(client, bad)
    async with client.get(MODELS, headers={"authorization": f"bearer  {key} "}) as response:
        assert 200 == response.status


async def test_unknown_routes_answer_404_without_credentials(
    serve: Serve, credentials: Credentials
) -> None:
    key = credentials.key()
    client = await serve(**credentials.settings)
    assert (404, 404) == tuple([await status(client, c, "/v1/nothing") for c in (None, key)])
    for path in ("/livez", "/readyz", "/metrics", "/origin", "/", "/openapi.json"):
        assert 200 == await status(client, None, path)
    assert 503 == await status(client, None, "/healthz/service")  # there is no worker


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "Authorization", "key"])
@pytest.mark.parametrize("closed", [False, True])
async def test_a_credential_in_a_url_is_refused_by_name(
    serve: Serve, credentials: Credentials, name: str, closed: bool
) -> None:
    client = await serve(**(credentials.settings if closed else {}))
    async with client.get(ALL, params={name: "canary"}) as response:
        body = await response.text()
    assert (400, "token_in_url") == (response.status, json.loads(body)["error"]["code"])
    assert "canary" not in body


async def test_an_expired_key_is_refused(serve: Serve, credentials: Credentials) -> None:
    past, soon = credentials.key(expires_at=unix() - 1), credentials.key(expires_at=unix() + 60)
    client = await serve(**credentials.settings)
    assert (401, 200) == (await status(client, past), await status(client, soon))


async def test_a_changed_key_file_is_reloaded_and_a_broken_one_is_ignored(
    serve: Serve, credentials: Credentials
) -> None:
    key, other = credentials.key(), credentials.key()
    client = await serve(**credentials.settings)
    fresh, public = new_pair("two", "HS256", None)
    credentials.revoke(key)
    old = credentials.token()
    credentials.list_signers(public)
    assert (401, 200, 401) == tuple([await status(client, c) for c in (key, other, old)])
    credentials.private = fresh
    Path(credentials.settings["jwt_keys"]).write_text("{")
    Path(credentials.settings["api_keys"]).unlink()
    assert (200, 200) == (await status(client, credentials.token()), await status(client, other))


# API keys in Redis


async def command(redis_url: str, *argv: str) -> str:
    environ = {"REDIS_URL": redis_url, "HOLDLINE_API_KEYS": "redis"}
    first, *_ = [line async for line in lines(environ, "keys", *argv)]
    return first.splitlines()[0]


async def test_keys_can_be_created_rotated_and_revoked_while_a_server_runs(
    serve: Serve, redis_url: str, pipe: Pipe
) -> None:
    client = await serve(api_keys="redis")
    first = await command(redis_url, "create", "acme", "--note", "n", "--model", "simulation")
    id_ = first.split("_")[1]
    assert 200 == await status(client, first)
    second = await command(redis_url, "rotate", id_)
    assert (200, 200) == (await status(client, first), await status(client, second))
    third = await command(redis_url, "rotate", id_)
    assert (401, 200, 200) == tuple([await status(client, c) for c in (first, second, third)])
    fourth = await command(redis_url, "rotate", id_, "--keep", "0s")
    assert (401, 200) == (await status(client, third), await status(client, fourth))
    assert f"{id_}  acme  create,read,cancel  models=simulation  n" == await command(
        redis_url, "list"
    )
    everything = await pipe.call("HGETALL", "holdline:{0}:api_keys")
    assert all(
        secret.split("_")[2].encode() not in b"".join(everything) for secret in (first, fourth)
    )
    await command(redis_url, "revoke", id_)
    assert 401 == await status(client, fourth)


async def test_known_keys_are_accepted_during_an_outage_of_redis_and_others_may_retry(
    serve: Serve, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await command(redis_url, "create", "acme")
    other = await command(redis_url, "create", "acme")
    async with Proxy(redis_url) as proxy:
        client = await serve(proxy.url, api_keys="redis")
        client.app[SERVER].pipe._deadline = 0.3
        assert 200 == await status(client, key)
        proxy.stop_forwarding()
        assert (200, 503) == (await status(client, key), await status(client, other))
        monkeypatch.setattr(api_key_store, "STALE_SECONDS", 0.0)
        assert 503 == await status(client, key)


async def test_a_foreign_key_record_is_ignored(serve: Serve, redis_url: str, pipe: Pipe) -> None:
    key = await command(redis_url, "create", "acme")
    client = await serve(api_keys="redis")
    await pipe.call("HSET", "holdline:{0}:api_keys", key.split("_")[1], b"\xc1{")
    assert 401 == await status(client, key)


# JWT keys from a URL


@asynccontextmanager
async def provider(answer: dict[str, Any]) -> AsyncIterator[tuple[str, list[str]]]:
    """An identity provider that records its requests."""
    asked: list[str] = []

    async def keyset(request: web.Request) -> web.Response:
        asked.append(request.path)
        if "redirect" in answer:
            raise web.HTTPFound(answer["redirect"])
        await asyncio.sleep(answer.get("delay", 0))
        return web.Response(text=answer["text"], status=answer.get("status", 200))

    app = web.Application()
    app.router.add_get("/jwks", keyset)
    server = TestServer(app)
    await server.start_server()
    try:
        yield str(server.make_url("/jwks")), asked
    finally:
        await server.close()


async def test_provider_keys_are_fetched_once_for_many_requests_and_not_for_each_unknown_kid(
    serve: Serve, credentials: Credentials
) -> None:
    answer = {"text": json.dumps({"keys": [credentials.public]}), "delay": 0.1}
    async with provider(answer) as (url, asked):
        client = await serve(jwks_url=url)
        token = credentials.token()
        assert {200} == set(await asyncio.gather(*(status(client, token) for _ in range(10))))
        assert 1 == len(asked)
        credentials.private, _ = new_pair("made up", "EdDSA", None)
        made_up = credentials.token()
        assert {401} == {await status(client, made_up) for _ in range(5)}
        assert 1 == len(asked)  # the provider's keys were fetched less than ten seconds ago


async def test_a_new_provider_key_is_accepted_soon(
    serve: Serve, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "PAUSE_SECONDS", 0.0)
    answer = {"text": json.dumps({"keys": [credentials.public]})}
    async with provider(answer) as (url, _):
        client = await serve(jwks_url=url)
        assert 200 == await status(client, credentials.token())
        credentials.private, public = new_pair("next", "EdDSA", None)
        answer["text"] = json.dumps({"keys": [credentials.public, public]})
        assert 200 == await status(client, credentials.token())


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "{}"},
        {"text": "x" * 70_000},
        {"text": "{}", "status": 500},
        {"text": "{}", "delay": 9},
        {"text": "{}", "redirect": "http://127.0.0.1:1/"},
    ],
    ids=str,
)
async def test_a_token_gets_a_retryable_error_while_provider_keys_are_unavailable(
    serve: Serve, credentials: Credentials, answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.3)
    async with provider(answer) as (url, _):
        client = await serve(jwks_url=url)
        async with client.get(MODELS, headers=bearer(credentials.token())) as response:
            error = (await response.json())["error"]
            assert (503, "token_keys_unavailable") == (response.status, own_code(error))
            assert int(response.headers["Retry-After"]) > 0
