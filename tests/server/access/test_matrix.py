"""Tests every operation, over HTTP and WebSocket, by every kind of caller."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, WSServerHandshakeError
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from server.access import api_key_store
from tests.error_codes import own_code
from tests.server.auth_helpers import Credentials, bearer, unix
from tests.server.factories import RESPONSE, Worker

Client = TestClient[Request, Application]
Serve = Callable[..., Awaitable[Client]]
ALL = "/v1/responses"
MARK = "the-words-of-anna"

NOTHING = "response_not_found"
DENIED = "insufficient_scope"


@dataclass
class Site:
    """A server with a finished response owned by anna, and credentials for each kind of caller."""

    client: Client
    id: str
    item: str
    people: dict[str, str | None] = field(default_factory=dict)


@pytest.fixture
async def site(
    serve: Serve, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    monkeypatch.setattr("runtime.watched_file.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(api_key_store, "FRESH_SECONDS", 0.0)
    credentials = Credentials(tmp_path)
    people: dict[str, str | None] = {
        "anna": credentials.token(),
        "anna elsewhere": credentials.token(tenant="other"),
        "bert": credentials.token("bert"),
        "anna of a longer name": credentials.token("anna2"),
        "a service": credentials.key(),
        "a service elsewhere": credentials.key("other"),
        "an admin": credentials.key("acme", "create", "read", "cancel", "admin"),
        "an admin elsewhere": credentials.key("other", "create", "read", "cancel", "admin"),
        "a token that says admin": credentials.token(
            "bert", scopes=["create", "read", "cancel", "admin"]
        ),
        "anna who may not": credentials.token(scopes=[]),
        "an admin who may not": credentials.key("acme", "admin"),
        "nobody": None,
        "anna expired": credentials.expired(),
        "revoked": credentials.key(),
        "expired key": credentials.key(expires_at=unix() - 1),
    }
    credentials.revoke(str(people["revoked"]))
    client = await serve(**credentials.settings)
    async with client.post(
        ALL,
        json={"input": MARK, "background": True, "idempotency_key": "k"},
        headers=headers(people["anna"]),
    ) as response:
        id_ = (await response.json())["id"]
    await worker.answer(MARK)
    async with client.get(f"{ALL}/{id_}", headers=headers(people["anna"])) as response:
        item = (await response.json())["output"][0]["id"]
    return Site(client, id_, item, people)


def headers(credential: str | None) -> dict[str, str]:
    return {} if credential is None else bearer(credential)


async def http(site: Site, who: str, verb: str, id_: str) -> str:
    """Returns `ok` or the error code of the refusal, which must not contain anna's text."""
    one = f"{ALL}/{id_}"
    created = {"input": "Why?", "background": True}
    verbs: dict[str, tuple[str, str, Any]] = {
        "retrieve": ("GET", one, None),
        "stream": ("GET", f"{one}?stream=true", None),
        "resume": ("GET", f"{one}?stream=true&starting_after=1", None),
        "input_items": ("GET", f"{one}/input_items", None),
        "cancel": ("POST", f"{one}/cancel", None),
        "delete": ("DELETE", one, None),
        "create": ("POST", ALL, created),
        "previous": ("POST", ALL, {**created, "previous_response_id": id_}),
        "reference": ("POST", ALL, {**created, "input": [{"id": item_of(site, id_)}]}),
        "models": ("GET", "/v1/models", None),
    }
    method, path, body = verbs[verb]
    async with site.client.request(
        method, path, json=body, headers=headers(site.people[who])
    ) as answer:
        text = await answer.text()
    if answer.status == 200:
        return "ok"
    assert MARK not in text
    return own_code(json.loads(text)["error"])


def item_of(site: Site, id_: str) -> str:
    return site.item if id_ == site.id else f"msg_{id_.removeprefix('resp_')}00000100"


async def socket(site: Site, who: str, verb: str, id_: str) -> str:
    """Performs the operation over a WebSocket, except for an allowed cancel, which has no reply."""
    messages: dict[str, dict[str, Any]] = {
        "retrieve": {"type": "holdline:resume", "response_id": id_},
        "resume": {"type": "holdline:resume", "response_id": id_, "starting_after": 1},
        "cancel": {"type": "response.cancel", "response_id": id_},
        "create": {"type": "response.create", "input": "Why?"},
        "previous": {"type": "response.create", "input": "Why?", "previous_response_id": id_},
        "reference": {"type": "response.create", "input": [{"id": item_of(site, id_)}]},
    }
    try:
        ws = await site.client.ws_connect(ALL, headers=headers(site.people[who]))
    except WSServerHandshakeError as refused:
        return {401: "invalid_token"}.get(refused.status, "refused")
    async with ws:
        await ws.send_json(messages[verb])
        heard = []
        while True:
            frame = await ws.receive(timeout=8)
            if frame.type is not WSMsgType.TEXT:
                break
            event = json.loads(frame.data)
            heard.append(event)
            if event["type"] == "error":
                assert MARK not in json.dumps(heard)
                return own_code(event["error"])
            if event["type"] in ("response.created", "response.completed"):
                return "ok"
        return "closed"


OVER_A_SOCKET = ["create", "retrieve", "resume", "cancel"]
LOOKING = ["retrieve", "stream", "resume", "input_items", "cancel", "delete"]
BUILDING = {"previous": "previous_response_not_found", "reference": "item_not_found"}
SEES = {"anna", "an admin"}
STRANGERS = [
    *("anna elsewhere", "bert", "anna of a longer name", "a service", "a service elsewhere"),
    *("an admin elsewhere", "a token that says admin"),
]
OUT = {
    "nobody": "authentication_required",
    "anna expired": "invalid_token",
    "revoked": "invalid_token",
    "expired key": "invalid_token",
}
MUTE = ["anna who may not", "an admin who may not"]


@pytest.mark.parametrize("who", [*STRANGERS, *OUT, *MUTE])
async def test_responses_of_others_are_as_unknown_as_nonexistent_ones(site: Site, who: str) -> None:
    for verb in [*LOOKING, *BUILDING]:
        expected = OUT.get(who) or (DENIED if who in MUTE else BUILDING.get(verb, NOTHING))
        for id_ in (site.id, RESPONSE):
            assert expected == await http(site, who, verb, id_), (verb, id_)
            if verb in ("stream", "input_items", "delete"):
                continue
            assert expected == await socket(site, who, verb, id_), (verb, id_)
    assert "ok" == await http(site, "anna", "retrieve", site.id)


@pytest.mark.parametrize("who", sorted(SEES))
async def test_every_operation_is_allowed_on_visible_responses(site: Site, who: str) -> None:
    for verb in LOOKING[:-1]:
        assert "ok" == await http(site, who, verb, site.id), verb
        assert NOTHING == await http(site, who, verb, RESPONSE), verb
    for verb in ("retrieve", "resume"):
        assert "ok" == await socket(site, who, verb, site.id), verb
        assert NOTHING == await socket(site, who, verb, RESPONSE), verb
    assert NOTHING == await socket(site, who, "cancel", RESPONSE)
    await cancel_over_a_socket(site, who)
    for verb, missing in BUILDING.items():
        expected = (
            "ok" if who == "anna" else missing
        )  # even administrators can continue only their own responses
        assert expected == await http(site, who, verb, site.id), verb
        assert expected == await socket(site, who, verb, site.id), verb
    assert "ok" == await http(site, who, "delete", site.id)
    assert NOTHING == await http(site, "anna", "retrieve", site.id)


async def cancel_over_a_socket(site: Site, who: str) -> None:
    """Cancels one of anna's waiting responses over a WebSocket."""
    created = {"input": "Why?", "background": True}
    annas = headers(site.people["anna"])
    async with site.client.post(ALL, json=created, headers=annas) as response:
        id_ = (await response.json())["id"]
    async with site.client.ws_connect(ALL, headers=headers(site.people[who])) as ws:
        await ws.send_json({"type": "response.cancel", "response_id": id_})
        async with site.client.get(f"{ALL}/{id_}?stream=true", headers=annas) as stream:
            assert '"status":"cancelled"' in await stream.text()


@pytest.mark.parametrize("who", [*sorted(SEES), *STRANGERS])
async def test_callers_with_the_create_scope_can_create_responses(site: Site, who: str) -> None:
    assert "ok" == await http(site, who, "create", "")
    assert "ok" == await socket(site, who, "create", "")
    assert "ok" == await http(site, who, "models", "")


@pytest.mark.parametrize("who", [*sorted(SEES), *STRANGERS])
async def test_idempotency_keys_are_separate_for_each_owner(site: Site, who: str) -> None:
    """The same key and body return anna's response to anna and a new one to everyone else."""
    async with site.client.post(
        ALL,
        json={"input": MARK, "background": True, "idempotency_key": "k"},
        headers=headers(site.people[who]),
    ) as response:
        found = await response.json()
    assert (found["id"] == site.id) == (who == "anna")


@pytest.mark.parametrize("scope", ["create", "read", "cancel"])
async def test_a_scope_allows_only_its_own_operations(
    serve: Serve, tmp_path: Path, worker: Worker, scope: str
) -> None:
    credentials = Credentials(tmp_path)
    people: dict[str, str | None] = {
        "one": credentials.token(scopes=[scope]),
        "anna": credentials.token(),
        "key": credentials.key("acme", scope),
    }
    client = await serve(**credentials.settings)
    async with client.post(
        ALL, json={"input": "Why?", "background": True}, headers=headers(people["anna"])
    ) as response:
        id_ = (await response.json())["id"]
    answer = await worker.answer("x")
    item = f"msg_{answer.job.id.removeprefix('resp_')}00000100"
    site = Site(client, id_, item, people)
    scopes = {
        "create": ["create"],
        "read": ["retrieve", "stream", "resume", "input_items"],
        "cancel": ["cancel", "delete"],
    }
    for needed, verbs in scopes.items():
        for verb in verbs:
            assert (needed == scope) == (DENIED != await http(site, "one", verb, id_)), verb
            assert (needed == scope) == (DENIED != await http(site, "key", verb, id_)), verb
            if verb in OVER_A_SOCKET and (verb != "cancel" or needed != scope):
                assert (needed == scope) == (DENIED != await socket(site, "one", verb, id_)), verb
    assert "ok" == await http(site, "one", "models", "")


async def test_chat_completions_require_the_create_scope(serve: Serve, tmp_path: Path) -> None:
    credentials = Credentials(tmp_path)
    keys = {
        "none": None,
        "read": credentials.key("acme", "read"),
        "create": credentials.key("acme", "create"),
    }
    client = await serve(**credentials.settings)
    codes = []
    for key in keys.values():
        async with client.post(
            "/v1/chat/completions", json={"messages": "?"}, headers=headers(key)
        ) as response:
            codes.append(response.status)
    assert [401, 403, 400] == codes


async def test_models_and_prompts_of_other_tenants_are_unknown(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.a]\nbase_url = "http://127.0.0.1:1/v1"\n'
        '[models.b]\nbase_url = "http://127.0.0.1:1/v1"\n'
        '[prompts.p]\nmodel = "b"\nmessages = [{ role = "user", content = "x" }]\n'
        '[prompts.q]\nmessages = [{ role = "user", content = "x" }]\n'
    )
    credentials = Credentials(tmp_path)
    key = credentials.key(models=["a", "z"], prompts=["p"])
    client = await serve(models=str(path), model="a", **credentials.settings)

    async def ask(**body: Any) -> tuple[int, str]:
        asked = {"background": True, **body}
        async with client.post(ALL, json=asked, headers=bearer(key)) as response:
            return response.status, await response.text()

    assert 200 == (await ask(input="x"))[0]
    for name in ("b", "z", "nothing"):
        status, text = await ask(input="x", model=name)
        assert 404 == status
        assert f"Model '{name}' not found. Available models: a." in text
    status, text = await ask(prompt={"id": "q"})
    assert (404, True) == (status, "prompt_not_found" in text)
    assert '"q' not in text.replace("'q'", "")
    # This API key is not allowed to use the template's model.
    assert 404 == (await ask(prompt={"id": "p"}))[0]
    assert 200 == (await ask(prompt={"id": "p"}, model="a"))[0]
    async with client.get("/v1/models", headers=bearer(key)) as response:
        assert ["a"] == [model["id"] for model in (await response.json())["data"]]
    async with client.get("/v1/models/b", headers=bearer(key)) as response:
        assert 404 == response.status
