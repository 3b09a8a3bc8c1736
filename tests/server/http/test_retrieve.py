"""Tests the routes that retrieve a response, with a real Redis and a worker run by the test."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from yarl import URL

from jobs.log.codec import encode_event
from jobs.log.events import continued, restarted
from jobs.log.items import Place
from server.api.frames import item_id_of
from server.http.sse import HELPER_HEADER
from tests.costs import costs
from tests.error_codes import own_code
from tests.server.factories import RESPONSE, Worker
from tests.server.http.steps import ALL, answered, background, events_of, refusal

Client = TestClient[Request, Application]


async def test_a_resume_after_any_event_receives_exactly_the_rest(
    client: Client, worker: Worker
) -> None:
    id_ = await answered(client, worker, "a", "b", "c")
    async with client.get(f"{ALL}/{id_}?stream=true") as response:
        whole, done = await events_of(response)
    assert done

    for after in range(-1, len(whole)):
        url = f"{ALL}/{id_}?stream=true&starting_after={after}"
        shown = {"item_id": item_id_of(whole[after]) if after >= 0 else ""}
        for params in ({}, shown):
            async with client.get(url, params=params) as response:
                assert (whole[after + 1 :], True) == await events_of(response)


async def test_a_finished_answer_is_streamed_in_one_write(client: Client, worker: Worker) -> None:
    """The head, the events and the end of the body need one write, which is half of the cost."""
    id_ = await answered(client, worker, "a", "b", "c")
    with costs() as found:
        async with client.get(f"{ALL}/{id_}?stream=true") as response:
            _, done = await events_of(response)
    assert done
    assert 1 == found.responses


async def test_a_resume_with_the_wrong_last_item_receives_only_an_error(
    client: Client, worker: Worker
) -> None:
    id_ = await answered(client, worker, "a", "b")
    url = f"{ALL}/{id_}?stream=true&starting_after=5&item_id=msg_of_another_attempt"
    async with client.get(url) as response:
        [event], done = await events_of(response)

    assert not done
    assert "response_rolled_back" == own_code(event["error"])


async def test_a_resume_of_a_running_answer_continues_live(client: Client, worker: Worker) -> None:
    id_ = await background(client)
    answer = await worker.take()
    await answer.say("a", "b")
    async with client.get(f"{ALL}/{id_}?stream=true&starting_after=4") as response:
        await answer.say("c")
        await answer.complete()
        events, done = await events_of(response)

    assert done
    assert ["a", "b", "c"] == [event["delta"] for event in events if "delta" in event]
    assert list(range(5, 5 + len(events))) == [event["sequence_number"] for event in events]


@pytest.mark.parametrize(
    ("headers", "renamed"),
    [({}, False), ({HELPER_HEADER: "runTools"}, False), ({HELPER_HEADER: "stream"}, True)],
)
@pytest.mark.parametrize("padded", ["false", "true"])
async def test_a_helper_that_knows_only_openais_events_gets_others_as_keepalives(
    client: Client, worker: Worker, headers: dict[str, str], renamed: bool, padded: str
) -> None:
    id_ = await background(client)
    answer = await worker.take()
    told = [
        restarted(answer.job, 2, "worker_lost"),
        continued(answer.job, 3, "worker_lost", Place("output_text", "msg_1", 0), 5),
    ]
    await answer.writer.append([encode_event(event) for event in told])
    await answer.complete()
    url = f"{ALL}/{id_}?stream=true&include_obfuscation={padded}"
    async with client.get(url, headers=headers) as response:
        events, done = await events_of(response)

    assert done
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    found = [event for event in events if "attempt" in event]
    expected = [{**event, "type": "keepalive"} if renamed else event for event in told]
    numbered = [
        {**event, "sequence_number": n["sequence_number"]}
        for event, n in zip(expected, found, strict=True)
    ]
    assert numbered == found


async def test_a_running_response_can_be_retrieved(client: Client, worker: Worker) -> None:
    id_ = await background(client)
    answer = await worker.take()
    await answer.say("So far")
    async with client.get(f"{ALL}/{id_}") as response:
        body = await response.json()

    assert ("in_progress", "So far") == (body["status"], body["output"][0]["content"][0]["text"])


async def test_a_resume_beyond_the_end_is_reported_in_the_stream(
    client: Client, worker: Worker
) -> None:
    id_ = await answered(client, worker, "a")
    async with client.get(f"{ALL}/{id_}?stream=true&starting_after=999") as response:
        events, done = await events_of(response)

    assert not done
    assert [("error", "starting_after_beyond_end")] == [
        (event["type"], event["error"]["code"]) for event in events
    ]


@pytest.mark.parametrize(
    "after", ["-2", "x", "1.5", "9" * 30, "9007199254740993", "0x1", "", " ", "1_0"]
)
async def test_an_invalid_sequence_number_is_refused(
    client: Client, worker: Worker, after: str
) -> None:
    id_ = await background(client)
    url = f"{ALL}/{id_}?stream=true&starting_after={after}"
    async with client.get(url) as response:
        assert (400, "invalid_value", "starting_after") == await refusal(response)


HOSTILE_IDS = [
    RESPONSE,
    "resp_x",
    "x" * 5000,
    "%7Bx%7D",
    "a:b",
    "%0A",
    "%00",
    "%FF%FE",
    "%F0%9F%91%A9",
    "%D9%A1",
    "%ED%A0%80",
]


@pytest.mark.parametrize("id_", HOSTILE_IDS)
async def test_an_unknown_id_is_not_found_on_every_route(client: Client, id_: str) -> None:
    one = URL(f"{ALL}/{id_}", encoded=True)
    for method, url in [
        ("GET", one),
        ("GET", one.with_query("stream=true")),
        ("DELETE", one),
        ("POST", one / "cancel"),
        ("GET", one / "input_items"),
    ]:
        async with client.request(method, url) as response:
            assert 404 == (await refusal(response))[0]


async def test_a_deleted_response_is_not_found(client: Client, worker: Worker) -> None:
    id_ = await answered(client, worker, "a")
    async with client.delete(f"{ALL}/{id_}") as response:
        assert {"id": id_, "object": "response", "deleted": True} == await response.json()
    async with client.get(f"{ALL}/{id_}") as response:
        assert 404 == response.status
    async with client.delete(f"{ALL}/{id_}") as response:
        assert 404 == response.status
