"""Tests that the Python client receives whole answers even if servers, workers or Redis fail."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from functools import partial

import pytest
from aiohttp import web

import holdline_client
from holdline_client import errors, events
from tests.fake_model import FakeModel
from tests.jobs.proxy import Proxy
from tests.paths.conftest import Shared
from tests.system import System, free_port, wait_until


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


def is_complete(text: str, tokens: int = 20) -> bool:
    """Returns whether the text consists of all tokens of a single call, in order."""
    words = text.split()
    calls = {word.partition("t")[0] for word in words}
    return len(calls) == 1 and [w.partition("t")[2] for w in words] == [*map(str, range(tokens))]


async def test_an_answer_streams_and_is_verified(shared: Shared) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        answer = client.ask(shared.prompt("mode=slow"))
        pieces = [piece async for piece in answer]
    assert len(pieces) > 3
    assert is_complete("".join(pieces))
    assert ("".join(pieces), "completed", True) == (answer.text, answer.status, answer.verified)
    assert answer.usage is not None
    assert 20 == answer.usage["output_tokens"]
    assert answer.response is not None
    assert answer.id == answer.response["id"]


async def test_twenty_prompts_share_one_socket_and_each_gets_its_own_answer(shared: Shared) -> None:
    prompts = [shared.prompt("mode=slow") for _ in range(20)]
    async with holdline_client.connect(shared.server.url) as client:
        texts = await asyncio.gather(*map(client.ask, prompts))
    assert [True] * 20 == [is_complete(text) for text in texts]
    assert 20 == len(set(texts))
    assert [1] * 20 == [len(shared.calls(prompt)) for prompt in prompts]


async def test_a_conversation_continues_and_an_answer_can_be_followed_by_its_id(
    shared: Shared,
) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        first = client.ask(shared.prompt())
        await first
        prompt = shared.prompt()
        second = client.ask(prompt, previous_response_id=first.id)
        await second
        assert second.id is not None
        async with holdline_client.connect(shared.other.url) as elsewhere:
            again = elsewhere.follow(second.id)
            assert second.text == "".join([piece async for piece in again])
            rest = elsewhere.follow(second.id, after=second.last - 6)
            pieces = "".join([piece async for piece in rest])
            assert second.text == rest.text
            assert second.text.endswith(pieces)
            assert second.text == await elsewhere.follow(second.id, after=second.last)
    (call,) = shared.calls(prompt)
    assert ["user", "assistant", "user"] == [m["role"] for m in call.body["messages"]]


async def test_client_exceptions_have_the_error_code_of_the_server(shared: Shared) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        with pytest.raises(errors.Refused) as refused:
            await client.ask("x", temperature=9)
        assert ("invalid_value", "temperature") == (refused.value.code, refused.value.param)
        with pytest.raises(errors.Failed) as failed:
            await client.ask(shared.prompt("mode=400"))
        assert "invalid_prompt" == failed.value.code
        with pytest.raises(errors.Failed) as unknown:
            await client.follow("resp_000" + "0" * 32)
        assert "response_not_found" == unknown.value.code
        cut = client.ask(shared.prompt("mode=length"))
        await cut
        assert ("incomplete", "max_output_tokens") == (cut.status, cut.incomplete_reason)


async def test_a_cancelled_answer_keeps_its_text_so_far(shared: Shared) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        answer = client.ask(shared.prompt("mode=slow tokens=2000"))
        async for _ in answer:
            answer.cancel()
            break
        await answer
    assert "cancelled" == answer.status
    assert answer.text.startswith("c")


async def test_a_server_killed_in_mid_answer_loses_no_text_and_causes_no_second_call(
    shared: Shared, beside: System
) -> None:
    port, prompt = str(free_port()), shared.prompt("mode=slow tokens=60 pace=0.05")
    server = await beside.server(HOLDLINE_PORT=port)
    async with holdline_client.connect(server.url) as client:
        answer = client.ask(prompt)
        pieces = []
        async for piece in answer:
            pieces.append(piece)
            if len(pieces) == 5:
                await server.kill()
                await beside.server(HOLDLINE_PORT=port)
    assert is_complete("".join(pieces), 60)
    assert 1 == len(shared.calls(prompt))
    assert answer.verified


async def test_the_client_reconnects_to_a_restarted_server(shared: Shared, beside: System) -> None:
    port, prompt = str(free_port()), shared.prompt("mode=slow tokens=40 pace=0.05")
    server = await beside.server(HOLDLINE_PORT=port)
    async with holdline_client.connect(server.url) as client:
        answer = client.ask(prompt)
        received: list[events.Event] = []
        async for event in answer.events():
            received.append(event)
            if isinstance(event, events.TextDelta) and server.popen.poll() is None:
                server.signal(signal.SIGTERM)
                await server.wait()
                server = await beside.server(HOLDLINE_PORT=port)
                break
        text = await answer
    assert is_complete(text, 40)
    assert 1 == len(shared.calls(prompt))


async def test_a_repeatedly_lost_connection_delivers_every_piece_once(shared: Shared) -> None:
    async with Proxy(shared.server.url) as proxy:
        async with holdline_client.connect(proxy.url.replace("redis", "http")) as client:
            answers = [client.ask(shared.prompt("mode=slow tokens=80")) for _ in range(5)]
            for cut in range(1, 5):
                await wait_until(partial(have_text, cut * 30, answers))
                proxy.reset()
            await asyncio.gather(*answers)
        assert [True] * 5 == [is_complete(answer.text, 80) for answer in answers]
        assert [True] * 5 == [answer.verified for answer in answers]
        assert proxy.accepted > 2


async def test_a_lost_acceptance_does_not_create_a_second_response(shared: Shared) -> None:
    prompt = shared.prompt("mode=slow")
    async with Proxy(shared.server.url) as proxy:
        async with holdline_client.connect(proxy.url.replace("redis", "http")) as client:
            proxy.drop_next_reply()
            text = await client.ask(prompt)
        assert 2 == proxy.accepted
    assert is_complete(text)
    assert 1 == len(shared.calls(prompt))


async def test_a_silent_connection_is_detected_and_replaced(
    shared: Shared,
) -> None:
    async with Proxy(shared.server.url) as proxy:
        url = proxy.url.replace("redis", "http")
        async with holdline_client.connect(url, ping_seconds=0.2) as client:
            answer = client.ask(shared.prompt("mode=slow tokens=60"))
            async for _ in answer:
                break
            proxy.stop_forwarding()
            client.probe()
            await wait_until(lambda: client.state == "reconnecting")
            proxy.forward_again()
            assert is_complete(await answer, 60)


@pytest.mark.heavy
async def test_the_text_of_a_failed_attempt_is_replaced_and_never_spliced(
    system: System, model: FakeModel
) -> None:
    server = await system.server()
    doomed = await system.worker(model.url)
    async with holdline_client.connect(server.url) as client:
        answer = client.ask("mode=slow tokens=100 pace=0.05")
        collecting = asyncio.create_task(_all(answer))
        with pytest.raises(errors.Restarted) as restarted:
            async for _ in answer:
                if doomed.popen.poll() is None:
                    await doomed.kill()
                    await system.worker(model.url)
                    model.script = {"pace": 0}
        assert (2, "worker_lost") == (restarted.value.attempt, restarted.value.reason)
        again = "".join([piece async for piece in answer])
        happened = await collecting
    assert is_complete(again, 100)
    assert again == answer.text
    (at,) = [i for i, h in enumerate(happened) if isinstance(h, events.Restarted)]
    assert again == "".join(h.text for h in happened[at:] if isinstance(h, events.TextDelta))
    assert isinstance(happened[-1], events.Ended)


def have_text(least: int, answers: list[holdline_client.Answer]) -> bool:
    return all(len(answer.text) > least for answer in answers)


async def _all(answer: holdline_client.Answer) -> list[events.Event]:
    return [event async for event in answer.events()]


@pytest.mark.heavy
async def test_a_queued_client_receives_its_position(system: System, model: FakeModel) -> None:
    server = await system.server()
    async with holdline_client.connect(server.url) as client:
        first, second = client.ask("one"), client.ask("two")
        telling = asyncio.create_task(_all(second))
        await wait_until(lambda: second.queue is not None and second.queue.position == 2)
        await system.worker(model.url)
        happened = await telling
        await first
    assert isinstance(happened[0], events.Connection)
    assert events.Queued in map(type, happened)
    assert isinstance(happened[-1], events.Ended)
    assert "completed" == happened[-1].status


class FalsifyingProxy(Proxy):
    """A proxy that falsifies the next `lies` checksums that it forwards."""

    lies = 0

    async def _pass(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.lies and b'"sha256":"' in data:
            self.lies -= 1
            data = re.sub(rb'"sha256":"....', b'"sha256":"0000', data)
        await super()._pass(data, writer)


async def test_a_wrong_checksum_is_retried_once_and_then_reported(
    shared: Shared,
) -> None:
    async with (
        FalsifyingProxy(shared.server.url) as proxy,
        holdline_client.connect(proxy.url.replace("redis", "http")) as client,
    ):
        proxy.lies = 1
        answer = client.ask(shared.prompt())
        text = "".join([piece async for piece in answer])
        assert (True, text) == (answer.verified, answer.text)
        proxy.lies = 2
        mismatched = client.follow(answer.id or "")
        with pytest.raises(errors.ChecksumMismatch):
            await mismatched
        assert (False, text, "completed") == (
            mismatched.verified,
            mismatched.text,
            mismatched.status,
        )


async def test_connecting_to_an_unreachable_server_times_out() -> None:
    with pytest.raises(errors.Unreachable):
        async with holdline_client.connect(f"http://127.0.0.1:{free_port()}", timeout=0.3):
            pass


async def test_a_rejected_upgrade_is_not_retried(shared: Shared) -> None:
    with pytest.raises(errors.Closed) as closed:
        async with holdline_client.connect(f"{shared.server.url}/nowhere/v1/responses", timeout=20):
            pass
    assert 404 == closed.value.status


async def test_a_close_for_want_of_a_credential_counts_as_a_failed_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdline_client.backoff.STABLE", 1e-9)  # each socket counts as stable
    sockets = asyncio.Queue[float]()

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["holdline.v1"])
        await socket.prepare(request)
        await sockets.put(asyncio.get_running_loop().time())
        await socket.send_json({"type": "holdline:welcome", "limits": {}})
        await socket.close(code=4408)
        return socket

    app = web.Application()
    app.router.add_get("/v1/responses", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with holdline_client.connect(f"http://127.0.0.1:{port}"):
        times = [await asyncio.wait_for(sockets.get(), 10) for _ in range(3)]
    await runner.cleanup()
    assert times[2] - times[1] > 0.4


async def test_closing_the_client_ends_pending_answers(shared: Shared) -> None:
    async with holdline_client.connect(shared.server.url) as client:
        answer = client.ask(shared.prompt("mode=slow tokens=500"))
        async for _ in answer:
            break
    with pytest.raises(errors.Closed):
        await answer
    with pytest.raises(errors.Closed):
        await client.ask("too late")
