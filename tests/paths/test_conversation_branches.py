"""Tests requests that continue an earlier turn of a conversation, and the list of conversations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI

from tests.paths.conftest import Shared
from tests.paths.conversation_devices import Device, Site, asked, message, running_site
from tests.system import System

OWN = "holdline.previous_response_id"


@pytest.fixture
async def site(system: System, tmp_path: Path) -> AsyncIterator[Site]:
    async with running_site(system, tmp_path) as site:
        yield site


async def ask(client: AsyncOpenAI, conversation: str, text: str, **own: Any) -> str:
    """Asks in a conversation, and returns the id of the response."""
    more: Any = {"extra_body": {"holdline": own}} if own else {}
    answer = await client.responses.create(
        input=text, model="m", conversation=conversation, timeout=30, **more
    )
    return str(answer.id)


async def test_a_request_continues_the_turn_that_it_names(
    client: AsyncOpenAI, shared: Shared
) -> None:
    made = await client.conversations.create(items=[message("rules")])
    prompts = {name: shared.prompt(f"tokens=1 {name}") for name in "abcdefg"}

    def context(name: str) -> list[str]:
        """Returns what the model received before the prompt: the names of prompts, or texts."""
        [call] = shared.calls(prompts[name])
        names = {text: key for key, text in prompts.items()}
        answers = {
            shared.answer_to(text): key.upper() for text, key in names.items() if shared.calls(text)
        }
        return [names.get(text) or answers.get(text) or text for text in asked(call)][:-1]

    a = await ask(client, made.id, prompts["a"])
    b = await ask(client, made.id, prompts["b"])
    await client.conversations.items.create(made.id, items=[message("note")])
    c = await ask(client, made.id, prompts["c"], previous_response_id=a)
    d = await ask(client, made.id, prompts["d"], previous_response_id=b)
    await ask(client, made.id, prompts["e"], previous_response_id=None)
    await ask(client, made.id, prompts["f"], previous_response_id=c)
    await ask(client, made.id, prompts["g"])
    assert ["rules"] == context("a")
    assert ["rules", "a", "A"] == context("b") == context("c")
    assert ["rules", "a", "A", "b", "B", "note"] == context("d")
    assert ["rules"] == context("e")
    assert ["rules", "a", "A", "c", "C"] == context("f")
    whole = ["rules", "a", "A", "b", "B", "note", "c", "C", "d", "D", "e", "E", "f", "F"]
    assert whole == context("g")

    async with aiohttp.ClientSession() as http, http.ws_connect(shared.server.ws_url) as ws:
        device = Device(ws)
        await device.follow(made.id, starting_after=-1)
        tree: list[tuple[str, str | None]] = []
        while len(tree) < 7:
            event = await device.until("holdline:conversation.response.created")
            tree.append((event["response_id"], event["previous_response_id"]))
    assert [(a, None), (b, a), (c, a), (d, b)] == tree[:4]
    assert [None, c, tree[5][0]] == [previous for _, previous in tree[4:]]


async def test_a_branch_outlives_its_response_and_leaves_out_deleted_items(
    client: AsyncOpenAI, shared: Shared
) -> None:
    made = await client.conversations.create()
    prompts = [shared.prompt("tokens=1") for _ in range(2)]
    first = await ask(client, made.id, prompts[0])
    items = await client.conversations.items.list(made.id, order="asc")
    await client.conversations.items.delete(str(items.data[1].id), conversation_id=made.id)
    await client.responses.delete(first)
    await ask(client, made.id, prompts[1], previous_response_id=first)
    assert prompts == asked(shared.calls(prompts[1])[0])


@pytest.mark.parametrize(
    ("own", "status", "code", "param"),
    [
        ({"previous_response_id": "resp_1"}, 400, "previous_response_not_found", OWN),
        ({"previous_response_id": "-"}, 400, "previous_response_not_found", OWN),
        ({"previous_response_id": ""}, 400, "previous_response_not_found", OWN),
        ({"previous_response_id": 5}, 400, "invalid_value", OWN),
        ({"previous_response_id": "x" * 129}, 400, "invalid_value", OWN),
        ({"colour": "red"}, 400, "unknown_parameter", "holdline.colour"),
        (5, 400, "invalid_value", "holdline"),
    ],
)
async def test_an_invalid_turn_is_refused(
    client: AsyncOpenAI, own: Any, status: int, code: str, param: str
) -> None:
    made = await client.conversations.create()
    with pytest.raises(openai.APIStatusError) as raised:
        await client.responses.create(
            input="a", model="m", conversation=made.id, extra_body={"holdline": own}
        )
    assert (status, code, param) == (
        raised.value.status_code,
        raised.value.code,
        raised.value.param,
    )


async def test_a_turn_needs_a_conversation_and_must_have_ended(
    client: AsyncOpenAI, shared: Shared
) -> None:
    with pytest.raises(openai.BadRequestError) as missing:
        await client.responses.create(
            input="a", model="m", extra_body={"holdline": {"previous_response_id": None}}
        )
    assert ("missing_required_parameter", OWN) == (missing.value.code, missing.value.param)
    made = await client.conversations.create()
    slow = await client.responses.create(
        input=shared.prompt("mode=slow tokens=60"),
        model="m",
        conversation=made.id,
        background=True,
    )
    with pytest.raises(openai.ConflictError) as running:
        await ask(client, made.id, "b", previous_response_id=slow.id)
    assert ("previous_response_not_ended", OWN) == (running.value.code, running.value.param)
    await client.responses.cancel(slow.id)


async def test_the_conversations_of_a_user_are_listed_and_searched(site: Site) -> None:
    async def page(client: AsyncOpenAI, **query: Any) -> Any:
        return await client.get("/conversations", cast_to=object, options={"params": query})

    async with site.sdk("anna") as client, site.sdk("ben") as stranger:
        titles = ["Sky", "Sea", "Blue sky", "Air"]
        made = [
            (await client.conversations.create(metadata={"title": title})).id for title in titles
        ]
        await client.conversations.update(made[0], metadata={"title": "SKY"})
        newest = [made[0], *reversed(made[1:])]

        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            listed = await page(client, limit=3, **after)
            assert "list" == listed["object"]
            found += [one["id"] for one in listed["data"]]
            if not listed["has_more"]:
                break
            after = {"after": listed["last_id"]}
        assert newest == found
        listed = await page(client, order="asc", query="sky")
        assert [made[2], made[0]] == [one["id"] for one in listed["data"]]
        state = listed["data"][1]["holdline"]
        assert ([], False, 1) == (state["running"], state["unread"], state["sequence_number"])
        first = await page(client, query="sky", limit=1)
        assert (made[0], True) == (first["last_id"], first["has_more"])
        second = await page(client, query="sky", limit=1, after=first["last_id"])
        assert [made[2]] == [one["id"] for one in second["data"]]
        assert [] == (await page(stranger))["data"]
        for query, param in (
            ({"after": made[0]}, "after"),
            ({"order": "up"}, "order"),
            ({"limit": 0}, "limit"),
            ({"query": "x" * 513}, "query"),
        ):
            with pytest.raises(openai.BadRequestError) as raised:
                await page(stranger, **query)
            assert param == raised.value.param


async def test_a_service_has_no_list_of_conversations(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.PermissionDeniedError) as raised:
        await client.get("/conversations", cast_to=object)
    assert "subject_required" == raised.value.code
