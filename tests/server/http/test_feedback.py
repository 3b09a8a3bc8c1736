"""Tests the routes for feedback on responses, with a real Redis."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from jobs.ids import new_response_id
from jobs.names import Partition
from jobs.redis.pipe import Pipe
from tests.server.auth_helpers import Credentials
from tests.server.conftest import Serve
from tests.server.factories import Worker
from tests.server.http.steps import ALL, answered, background, refusal

Client = TestClient[Request, Application]
NONE: dict[str, Any] = {"rating": None, "comment": ""}


async def test_feedback_is_stored_replaced_and_read_back(client: Client, worker: Worker) -> None:
    id_ = await answered(client, worker, "a")
    expected = {"id": id_, "object": "holdline.feedback", **NONE}
    url = f"{ALL}/{id_}/feedback"
    async with client.get(url) as response:
        assert expected == await response.json()
    for given, stored in (
        ({"rating": "up"}, {"rating": "up", "comment": ""}),
        ({"rating": "down", "comment": "Not 😀"}, {"rating": "down", "comment": "Not 😀"}),
        ({"rating": "down", "comment": "Not 😀"}, {"rating": "down", "comment": "Not 😀"}),
        ({"rating": None, "comment": "é" * 2000}, {"rating": None, "comment": "é" * 2000}),
        ({"rating": None, "comment": None}, NONE),
    ):
        async with client.post(url, json=given) as response:
            assert 200 == response.status, await response.text()
            assert expected | stored == await response.json()
        async with client.get(url) as response:
            assert expected | stored == await response.json()


@pytest.mark.parametrize(
    ("body", "code", "param", "message"),
    [
        ({}, "missing_required_parameter", "rating", "'rating' is required"),
        ({"comment": "x"}, "missing_required_parameter", "rating", "'rating' is required"),
        ({"rating": "good"}, "invalid_value", "rating", "'good' is not supported"),
        ({"rating": 1}, "invalid_value", "rating", "expected `str | null`"),
        ({"rating": ["up"]}, "invalid_value", "rating", "expected `str | null`"),
        ({"rating": "up", "comment": 5}, "invalid_value", "comment", "expected `str | null`"),
        ({"rating": "up", "comment": "x" * 2001}, "invalid_value", "comment", "2000"),
        ({"rating": "up", "stars": 5}, "unknown_parameter", "stars", "'stars'"),
    ],
)
async def test_an_error_names_the_field_and_its_limit(
    client: Client, body: dict[str, Any], code: str, param: str, message: str
) -> None:
    id_ = await background(client)
    async with client.post(f"{ALL}/{id_}/feedback", json=body) as response:
        assert (400, code, param) == await refusal(response)
        assert message in await response.text()


@pytest.mark.parametrize("body", ["", "[]", "{", '{"rating": "up", "comment": "\\ud83d"}'])
async def test_a_body_that_is_no_object_or_no_text_is_refused(client: Client, body: str) -> None:
    id_ = await background(client)
    async with client.post(f"{ALL}/{id_}/feedback", data=body) as response:
        assert (400, "invalid_json", None) == await refusal(response)


async def test_unknown_and_deleted_responses_are_refused_alike(client: Client) -> None:
    deleted = await background(client)
    async with client.delete(f"{ALL}/{deleted}") as response:
        assert 200 == response.status
    for id_ in (deleted, new_response_id(0), "nonsense"):
        url = f"{ALL}/{id_}/feedback"
        async with client.post(url, json={"rating": "up"}) as response:
            assert (404, "response_not_found", "response_id") == await refusal(response)
        async with client.get(url) as response:
            assert (404, "response_not_found", "response_id") == await refusal(response)


async def test_only_those_who_may_read_a_response_may_judge_it(
    serve: Serve, tmp_path: Path
) -> None:
    credentials = Credentials(tmp_path)
    service, writer = credentials.key(), credentials.key("acme", "create")
    foreign = credentials.key("other")
    client = await serve(**credentials.settings)

    async def rate(credential: str, id_: str) -> int:
        headers = {"Authorization": f"Bearer {credential}"}
        url = f"{ALL}/{id_}/feedback"
        async with client.post(url, json={"rating": "up"}, headers=headers) as response:
            return response.status

    anna = credentials.token("anna")
    headers = {"Authorization": f"Bearer {anna}"}
    body = {"input": "Why?", "background": True}
    async with client.post(ALL, json=body, headers=headers) as response:
        id_ = (await response.json())["id"]
    assert 200 == await rate(anna, id_)
    assert 404 == await rate(credentials.token("ben"), id_)
    assert 404 == await rate(credentials.token("anna", "other"), id_)
    assert [404, 404, 403] == [await rate(key, id_) for key in (foreign, service, writer)]


async def test_concurrent_changes_queue_one_webhook_with_the_last_one(
    serve: Serve, pipe: Pipe
) -> None:
    client = await serve(webhook_url="https://app.example/holdline")
    id_ = await background(client)
    url = f"{ALL}/{id_}/feedback"

    async def rate(number: int) -> None:
        async with client.post(url, json={"rating": "up", "comment": str(number)}) as response:
            assert 200 == response.status

    await asyncio.gather(*map(rate, range(20)))
    names = Partition(0)
    assert [id_.encode()] == await pipe.call("ZRANGE", names.feedbacks, 0, -1)
    job, hook = names.job(id_), names.feedback(id_)
    stored = await pipe.call("HGET", job, "feedback")
    assert stored == await pipe.call("HGET", hook, "message")
    assert b"20" == await pipe.call("HGET", hook, "changes")
    async with client.get(url) as response:
        assert (await response.json())["comment"].encode() in stored
