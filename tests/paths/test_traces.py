"""Tests the traces that servers and workers export, with a real receiver of OTLP."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from openai import AsyncOpenAI

from dev.trace import BARS, LINKED
from runtime.command_line import INVALID_SETTINGS
from tests.collector import Collector, Recorded
from tests.fake_model import FakeModel
from tests.paths.conftest import sdk
from tests.paths.sockets import TERMINAL, socket, until
from tests.system import PREFIX, System, run_command, run_module, wait_until

# The timeout is long: each test starts up to four processes, each of which needs seconds on shared
# cores.
pytestmark = pytest.mark.timeout(240)
SECRET = "the-secret-word"
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5


@pytest.fixture
async def model() -> AsyncIterator[FakeModel]:
    async with FakeModel() as model:
        yield model


@pytest.fixture
async def collector(system: System) -> AsyncIterator[Collector]:
    async with Collector() as collector:
        system.environ |= collector.environ
        yield collector


async def create(client: AsyncOpenAI, prompt: str, traceparent: str = TRACEPARENT) -> str:
    response = await client.responses.create(
        input=f"{prompt} {SECRET}",
        model="m",
        background=True,
        extra_headers={"traceparent": traceparent, "baggage": f"note={SECRET}"},
    )
    return response.id


async def only(collector: Collector, name: str, **attributes: object) -> Recorded:
    """Waits for the only span with this name and with these attributes."""
    await wait_until(lambda: collector.named(name, **attributes))
    [span] = collector.named(name, **attributes)
    return span


async def test_one_trace_shows_an_answer_although_a_worker_dies(
    system: System, model: FakeModel, collector: Collector
) -> None:
    server = await system.server()
    async with sdk(server) as client:
        first = await system.worker(model.url)
        id_ = await create(client, "mode=slow tokens=40 pace=0.03")
        await wait_until(lambda: model.calls and model.calls[-1].sent)
        await wait_until(lambda: collector.named("queue", response_id=id_))
        await first.kill()
        await system.worker(model.url)
        stream = await client.responses.retrieve(
            id_, stream=True, extra_headers={"traceparent": f"00-{'9' * 32}-{'8' * 16}-01"}
        )
        said = "".join([e.delta async for e in stream if e.type == "response.output_text.delta"])
    request = await only(collector, "POST /v1/responses", response_id=id_)
    submit = await only(collector, "submit", response_id=id_)
    lost = await only(collector, "attempt", response_id=id_, attempt=1)
    attempt = await only(collector, "attempt", response_id=id_, attempt=2)
    call = await only(collector, "chat m", response_id=id_)
    deliver = await only(collector, "deliver", response_id=id_)
    waits = collector.named("queue", response_id=id_)

    # The picture in docs/watch.md shows these spans.
    names = {one.span_id: one.name for one in collector.spans} | {PARENT: ""}
    spans = [request, submit, waits[0], lost, waits[1], attempt, call]
    shown = [(one.name, names[one.parent_id]) for one in spans]
    assert shown == [(bar.name, bar.parent) for bar in BARS if bar.name != LINKED]

    assert (TRACE, PARENT, SERVER) == (request.trace_id, request.parent_id, request.kind)
    assert (TRACE, request.span_id, PRODUCER) == (submit.trace_id, submit.parent_id, submit.kind)
    assert [(TRACE, submit.span_id)] * 2 == [(one.trace_id, one.parent_id) for one in waits]
    assert [None, "worker_lost"] == [one.attributes.get("holdline.reason") for one in waits]
    assert (TRACE, submit.span_id, CONSUMER) == (attempt.trace_id, attempt.parent_id, attempt.kind)
    assert (TRACE, attempt.span_id, CLIENT) == (call.trace_id, call.parent_id, call.kind)
    # The first worker took the job and died; the second wait begins after its lease has expired.
    assert waits[0].resource["process.pid"] != waits[1].resource["process.pid"]
    assert waits[0].ended < waits[1].began <= waits[1].ended <= attempt.began <= call.began
    assert {"holdline-server"} == {one.service for one in (request, submit, deliver)}
    assert {"holdline-worker"} == {one.service for one in (*waits, attempt, call)}

    assert 2 == attempt.attributes["holdline.attempt"]
    assert "stop" == attempt.attributes["holdline.cause"]
    assert attempt.attributes["holdline.log_entries"] > 40
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.id": "chatcmpl-fake",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 40,
        "openai.api.type": "chat_completions",
        "server.address": "127.0.0.1",
    }.items() <= call.attributes.items()
    assert 0 < call.attributes["gen_ai.response.time_to_first_chunk"] < call.ended - call.began
    # The worker that took the job over recorded the attempt of the dead one.
    assert ("worker_lost", lost.resource) == (lost.attributes["holdline.cause"], attempt.resource)
    assert abs(lost.began - waits[0].ended) < 0.2
    assert abs(lost.ended - waits[1].began) < 0.2
    assert [lost] == [one for one in collector.spans if one.failed]

    # The client that resumed has its own trace, which is linked to that of the response.
    assert ("9" * 32, [submit.span_id]) == (deliver.trace_id, deliver.links)
    assert "complete" == deliver.attributes["holdline.ending"]
    assert deliver.attributes["holdline.events"] > 40

    # Neither a call nor a log line has the prompt, the answer, the key or the client's baggage.
    exported = b"".join(collector.bodies)
    assert id_.encode() in exported
    for text in (SECRET, said.split()[-1], "Bearer", "OPENAI_API_KEY"):
        assert text.encode() not in exported, text
    assert all("traceparent" not in one.headers for one in model.calls)
    assert all("baggage" not in one.headers for one in model.calls)


async def test_a_socket_message_carries_its_own_trace_and_a_resend_is_linked(
    system: System, model: FakeModel, collector: Collector
) -> None:
    server = await system.server()
    await system.worker(model.url, HOLDLINE_SEND_TRACEPARENT="1")
    other = f"00-{'1' * 32}-{'2' * 16}-01"
    create = {"type": "response.create", "input": "Why?", "model": "m", "idempotency_key": "k"}
    ids = []
    for traceparent in (TRACEPARENT, other):
        async with socket(server) as ws:
            metadata = {"ws_request_header_traceparent": traceparent}
            await ws.send_json({**create, "client_metadata": metadata})
            events = await until(ws, *TERMINAL)
        ids.append(events[-1]["response"]["id"])
    assert 1 == len(set(ids)) == len(model.calls)
    await wait_until(lambda: 2 == len(collector.named("deliver")) == len(collector.named("submit")))
    first, resent = collector.named("submit")
    assert [TRACE, "1" * 32] == [first.trace_id, resent.trace_id]
    assert [[], [first.span_id]] == [first.links, resent.links]
    assert [[], [first.span_id]] == [one.links for one in collector.named("deliver")]
    call = await only(collector, "chat m")
    # The endpoint continues the trace, because the operator allows it.
    assert call.context == model.calls[0].headers["traceparent"]
    assert {(one.name, one.kind) for one in collector.spans if one.kind == SERVER} == {
        ("response.create", SERVER)
    }


async def test_each_message_about_a_response_can_carry_its_own_trace(
    system: System, model: FakeModel, collector: Collector
) -> None:
    server = await system.server()
    await system.worker(model.url)
    kinds = ("response.steer", "holdline:resume", "response.cancel")
    traces = {kind: str(number) * 32 for number, kind in enumerate(kinds, 3)}
    metadata = {
        kind: {"client_metadata": {"ws_request_header_traceparent": f"00-{trace}-{PARENT}-01"}}
        for kind, trace in traces.items()
    }
    async with socket(server) as ws, socket(server) as other:
        await ws.send_json({"type": "response.create", "input": "mode=hang at=3", "model": "m"})
        [first] = await until(ws, "response.created")
        id_ = first["response"]["id"]
        await wait_until(lambda: model.calls and model.calls[-1].sent)
        resume = {"type": "holdline:resume", "response_id": id_, **metadata["holdline:resume"]}
        await other.send_json(resume)
        await until(other, "response.output_text.delta")
        steer = {"type": "response.steer", "previous_response_id": id_, "input": "Shorter."}
        await ws.send_json({**steer, **metadata["response.steer"]})
        await until(ws, "response.steer.accepted")
        cancel = {"type": "response.cancel", "response_id": id_, **metadata["response.cancel"]}
        await ws.send_json(cancel)
        await until(ws, *TERMINAL)
        await until(other, *TERMINAL)
    steered = await only(collector, "response.steer", response_id=id_)
    cancelled = await only(collector, "response.cancel")

    def of_the_resume() -> list[Recorded]:
        found = collector.named("deliver", response_id=id_)
        return [one for one in found if one.trace_id == traces["holdline:resume"]]

    [resumed] = await wait_until(of_the_resume)
    submit = await only(collector, "submit", response_id=id_)
    assert (traces["response.steer"], PARENT) == (steered.trace_id, steered.parent_id)
    assert (traces["response.cancel"], PARENT) == (cancelled.trace_id, cancelled.parent_id)
    assert (PARENT, [submit.span_id]) == (resumed.parent_id, resumed.links)


async def test_a_failed_call_and_a_refused_request_have_their_codes(
    system: System, model: FakeModel, collector: Collector
) -> None:
    server = await system.server(HOLDLINE_REQUEST_LOG="on")
    await system.worker(model.url)
    async with sdk(server) as client:
        await create(client, "mode=busy")
        with pytest.raises(Exception, match="max_output_tokens"):
            await client.responses.create(input="a", model="m", max_output_tokens=-1)
    call = await only(collector, "chat m")
    attempt = await only(collector, "attempt")
    assert call.failed
    assert attempt.failed
    assert call.attributes["error.type"] == attempt.attributes["error.type"]
    await wait_until(lambda: 2 == len(collector.named("POST /v1/responses")))
    _, refused = collector.named("POST /v1/responses")
    assert 400 == refused.attributes["http.response.status_code"]
    assert refused.attributes["holdline.code"]
    assert not refused.failed  # the client is at fault


@pytest.mark.heavy
async def test_an_unavailable_collector_disturbs_nothing(system: System, model: FakeModel) -> None:
    """Spans are dropped, one line says so, and a process stops in time."""
    async with Collector() as collector:
        system.environ |= collector.environ | {
            "OTEL_BSP_MAX_QUEUE_SIZE": "16",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
        }
        collector.status = 400
        server, worker = await asyncio.gather(system.server(), system.worker(model.url))
        async with sdk(server) as client:
            for _ in range(20):
                answer = await client.responses.create(input="tokens=5", model="m")
                assert "completed" == answer.status
            failing = "trace export failing: spans are dropped until the collector accepts them"
            for process in (server, worker):
                await wait_until(lambda one=process: failing in one.output)  # type: ignore[misc]
            collector.status = 200
            await client.responses.create(input="tokens=5", model="m")
        for process in (server, worker):
            await wait_until(lambda one=process: "trace export recovered" in one.output)  # type: ignore[misc]
            assert 1 == process.output.count(failing)
            assert collector.url in process.output
    # Now nothing listens at the collector's address.
    async with sdk(server) as client:
        assert "completed" == (await client.responses.create(input="b", model="m")).status
    for process in (server, worker):
        process.popen.terminate()
        assert await process.wait(10) in (0, -15)


async def test_a_process_without_otel_variables_imports_no_sdk() -> None:
    code = "import sys, {}.__main__; print([n for n in sys.modules if 'opentelemetry' in n])"
    for program in ("server", "worker"):
        output = await run_command(sys.executable, "-c", code.format(PREFIX + program))
        assert "[]" == output.strip()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "must be http/protobuf"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "must be otlp or none"),
    ],
)
def test_an_unsupported_variable_is_refused_at_start_up(
    name: str, value: str, message: str
) -> None:
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318", "OPENAI_API_KEY": "any"}
    for program in ("server", "worker"):
        ended = run_module(program, **{**environ, name: value})
        assert INVALID_SETTINGS == ended.returncode
        assert ended.stderr.startswith(f"{program}: {name} {message}")
        assert 1 == len(ended.stderr.splitlines())


@pytest.mark.heavy
async def test_a_webhook_belongs_to_the_trace_of_its_response(
    system: System, model: FakeModel, collector: Collector
) -> None:
    app = web.Application()

    async def accept(_: web.Request) -> web.Response:
        return web.Response(status=204)

    app.router.add_post("/hook-with-a-secret", accept)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    system.environ |= {
        "HOLDLINE_WEBHOOK_URL": f"http://127.0.0.1:{runner.addresses[0][1]}/hook-with-a-secret",
        "HOLDLINE_WEBHOOK_SECRET": "whsec_c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0",
        "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1",
    }
    try:
        server = await system.server()
        await system.worker(model.url)
        async with sdk(server) as client:
            id_ = await create(client, "tokens=5")
        webhook = await only(collector, "webhook", response_id=id_)
        submit = await only(collector, "submit", response_id=id_)
        assert (TRACE, submit.span_id, CLIENT) == (
            webhook.trace_id,
            webhook.parent_id,
            webhook.kind,
        )
        assert 204 == webhook.attributes["http.response.status_code"]
        assert b"hook-with-a-secret" not in b"".join(collector.bodies)
    finally:
        await runner.cleanup()
