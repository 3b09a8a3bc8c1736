"""Tests the list of models that a caller may use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.log.log import read
from jobs.redis.pipe import Pipe
from tests.server.conftest import Client, Serve
from tests.server.factories import Worker
from tests.system import EXTENSIONS


@pytest.fixture
async def listing(serve: Serve, tmp_path: Path) -> Client:
    """Starts a server with a models file."""
    path = tmp_path / "models.toml"
    path.write_text(
        'default = "a/b"\n'
        '[models."a/b"]\nbase_url = "http://h"\n[models.c]\nbase_url = "http://h"\n'
    )
    return await serve(models=str(path), model="")


async def test_the_models_of_the_file_are_listed(listing: Client) -> None:
    listed = await (await listing.get("/v1/models")).json()
    assert ["a/b", "c"] == [model["id"] for model in listed["data"]]
    for model in listed["data"]:
        assert model == await (await listing.get(f"/v1/models/{model['id']}")).json()


async def test_the_refusal_of_an_unknown_model_names_the_known_ones(listing: Client) -> None:
    for answer in (
        await listing.get("/v1/models/d"),
        await listing.post("/v1/responses", json={"input": "x", "model": "d"}),
    ):
        error = (await answer.json())["error"]
        assert (404, "model_not_found", "model") == (answer.status, error["code"], error["param"])
        assert "Available models: a/b, c." in error["message"]


async def test_a_parameter_missing_from_the_models_api_is_refused(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text('[models.r]\nbase_url = "http://h"\napi = "responses"\n')
    client = await serve(models=str(path), model="")
    chat = {"model": "r", "messages": [{"role": "user", "content": "x"}]}
    asked = {"model": "r", "input": "x", "background": True}
    for route, body, param in (
        ("/v1/responses", asked | {"holdline_stop": ["a"]}, "holdline_stop"),
        ("/v1/responses", asked | {"holdline_seed": 0}, "holdline_seed"),
        ("/v1/chat/completions", chat | {"stop": "a"}, "stop"),
    ):
        answer = await client.post(route, json=body)
        error = (await answer.json())["error"]
        assert (400, "unsupported_parameter", param) == (
            answer.status,
            error["code"],
            error["param"],
        )
    allowed = await client.post("/v1/responses", json=asked | {"holdline_stop": []})
    assert 200 == allowed.status


async def test_a_parameter_supported_by_a_fallback_is_accepted(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.r]\nbase_url = "http://h"\napi = "responses"\nfallbacks = ["c"]\n'
        '[models.c]\nbase_url = "http://h"\nfallbacks = ["r"]\n'
    )
    client = await serve(models=str(path), model="")
    for model in ("r", "c"):
        asked = {"model": model, "input": "x", "background": True, "holdline_seed": 7}
        assert 200 == (await client.post("/v1/responses", json=asked)).status


async def test_the_default_model_of_the_file_is_used(listing: Client) -> None:
    body = {"input": "x", "background": True}
    assert "a/b" == (await (await listing.post("/v1/responses", json=body)).json())["model"]


async def test_any_model_name_is_passed_on_without_a_models_file(client: Client) -> None:
    body = {"input": "x", "background": True, "model": "any"}
    assert "any" == (await (await client.post("/v1/responses", json=body)).json())["model"]
    assert 200 == (await client.get("/v1/models/simulation")).status
    assert 404 == (await client.get("/v1/models/any")).status


@pytest.mark.parametrize(
    ("asked", "used"),
    [(None, "default"), ("auto", "default"), ("flex", "flex"), ("priority", "priority")],
)
async def test_the_service_tier_is_shown_and_selects_the_queue(
    listing: Client, pipe: Pipe, asked: str | None, used: str
) -> None:
    body = {"input": "x", "background": True, "service_tier": asked}
    response = await (await listing.post("/v1/responses", json=body)).json()
    assert used == response["service_tier"]
    view = await read(pipe, response["id"], 0, max_entries=0)
    assert f"{used[0]}:a/b" == view.queue_name


async def test_a_queue_position_counts_the_jobs_ahead(serve: Serve) -> None:
    client = await serve()
    async with client.ws_connect("/v1/responses", protocols=EXTENSIONS) as ws:
        for lane, tier in (("a", "priority"), ("b", "priority"), ("c", "flex"), ("d", "default")):
            create = {"type": "response.create", "input": "x", "stream_id": lane}
            await ws.send_json({**create, "service_tier": tier})
        places: dict[str, int] = {}
        while {"a": 1, "b": 2, "d": 3, "c": 4} != places:
            event = await ws.receive_json(timeout=20)
            if event["type"] == "holdline:queued":
                places[event["stream_id"]] = event["position"]


@pytest.mark.parametrize("how", ["previous_response_id", "conversation", "item_reference"])
@pytest.mark.parametrize("part", ["input_file", "input_image"])
async def test_a_file_by_id_in_an_earlier_turn_is_refused_for_a_chat_model(
    serve: Serve, worker: Worker, tmp_path: Path, how: str, part: str
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        '[models.r]\nbase_url = "http://h"\napi = "responses"\n'
        '[models.c]\nbase_url = "http://h"\n'
        '[models.d]\nbase_url = "http://h"\nfallbacks = ["r"]\n'
    )
    client = await serve(models=str(path), model="")
    said = [{"role": "user", "content": [{"type": part, "file_id": "file_1"}]}]
    turn: dict[str, Any] = {"input": "And now?", "background": True}
    if how == "conversation":
        made = await client.post("/v1/conversations", json={"items": said})
        turn["conversation"] = (await made.json())["id"]
    else:
        first = {"model": "r", "input": said, "background": True}
        id_ = (await (await client.post("/v1/responses", json=first)).json())["id"]
        await worker.answer("A file.")
        if how == "item_reference":
            listed = await (await client.get(f"/v1/responses/{id_}/input_items")).json()
            turn["input"] = [{"type": how, "id": listed["data"][0]["id"]}]
        else:
            turn[how] = id_
    refused = await client.post("/v1/responses", json={"model": "c", **turn})
    error = (await refused.json())["error"]
    place = "input[0].id" if how == "item_reference" else how
    assert (400, "unsupported_parameter", place) == (refused.status, error["code"], error["param"])
    assert "does not support files by id" in error["message"]
    assert "Use a model that can: r." in error["message"]
    for other in ("r", "d"):
        answer = await client.post("/v1/responses", json={"model": other, **turn})
        assert 200 == answer.status
        await worker.answer("A file.")
