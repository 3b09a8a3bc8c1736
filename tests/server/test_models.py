"""What a caller is told of the models that may be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.conftest import Client, Serve


@pytest.fixture
async def listing(serve: Serve, tmp_path: Path) -> Client:
    """A server with a models file."""
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


async def test_an_unknown_model_is_refused_and_the_known_ones_named(listing: Client) -> None:
    for answer in (
        await listing.get("/v1/models/d"),
        await listing.post("/v1/responses", json={"input": "x", "model": "d"}),
    ):
        error = (await answer.json())["error"]
        assert (404, "model_not_found", "model") == (answer.status, error["code"], error["param"])
        assert "Known: a/b, c." in error["message"]


async def test_the_files_default_is_used(listing: Client) -> None:
    body = {"input": "x", "background": True}
    assert "a/b" == (await (await listing.post("/v1/responses", json=body)).json())["model"]


async def test_without_a_file_any_name_is_passed_on(client: Client) -> None:
    body = {"input": "x", "background": True, "model": "any"}
    assert "any" == (await (await client.post("/v1/responses", json=body)).json())["model"]
    assert 200 == (await client.get("/v1/models/simulation")).status
    assert 404 == (await client.get("/v1/models/any")).status
