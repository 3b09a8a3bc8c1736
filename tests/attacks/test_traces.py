"""Attacks with trace contexts and other headers that a client may set to any bytes."""

from __future__ import annotations

import json
from typing import Any, Final

import aiohttp
import pytest

from tests.attacks.raw import Raw
from tests.collector import Collector
from tests.system import System, wait_until

pytestmark = pytest.mark.timeout(120)
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
SPAN: Final = "b7ad6b7169203331"
GOOD: Final = f"00-{TRACE}-{SPAN}-01".encode()
MALFORMED: Final = (
    b"",
    b"00",
    GOOD.upper().replace(b"A", b"G"),
    GOOD + b"-more",
    b"ff" + GOOD[2:],
    f"00-{'0' * 32}-{SPAN}-01".encode(),
    f"00-{TRACE}-{'0' * 16}-01".encode(),
    GOOD.replace(b"0af7", b"\xff\xfe\xf7\x80"),
    GOOD + b"\x0b",
    "００".encode() + GOOD[2:],
    GOOD * 200,
    b"00-" + b"a" * 5_000,
    b"\x1b[2J\x1b]0;owned\x07",
)
OTHERS: Final = {
    b"tracestate": (b"secret=1", b"a=" + b"b" * 6_000, b"\xff\xfe=1", b",,,,=,;\x01"),
    b"baggage": (b"note=secret", b"\x80\x81"),
    b"User-Agent": (b"\xff\xfe\x80",),
    b"X-Stainless-Retry-Count": (b"\xff", b"-1", b"9" * 300, "２".encode()),
    b"X-Stainless-Helper-Method": (b"\xff\xfe",),
    b"Last-Event-ID": (b"\xff\xfe", b"9" * 300),
}


def request(url: str, *headers: tuple[bytes, bytes]) -> bytes:
    body = json.dumps({"input": "Why?", "model": "m", "background": True}).encode()
    lines = [
        b"POST /v1/responses HTTP/1.1",
        b"Host: " + url.split("/")[2].encode(),
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
        b"Connection: close",
        *(name + b": " + value for name, value in headers),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_malformed_trace_contexts_begin_a_new_trace_and_break_nothing(
    system: System,
) -> None:
    async with Collector() as collector:
        system.environ |= collector.environ | {"HOLDLINE_REQUEST_LOG": "on"}
        server = await system.server()
        accepted = 0
        headers = [[(b"traceparent", value)] for value in MALFORMED]
        headers += [[(name, value)] for name, values in OTHERS.items() for value in values]
        headers.append([(b"traceparent", GOOD), (b"traceparent", b"\xff")])
        for one in headers:
            async with Raw(server.url) as raw:
                status, head = await raw.answer(request(server.url, *one))
            # 400 is the reply of the HTTP parser to control characters in a header.
            assert status in (200, 400), (one, head)
            accepted += status == 200
        assert accepted >= len(headers) - 4
        await wait_until(lambda: len(collector.named("POST /v1/responses")) >= accepted)
        assert accepted == len(collector.named("submit"))
        assert [] == [span for span in collector.spans if span.parent_id == SPAN]
        exported = b"".join(collector.bodies)
        for text in (b"secret", b"owned", b"\xff\xfe\x80"):
            assert text not in exported

        # Over a WebSocket, the context is a member of an object with any content.
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{server.url}/v1/responses") as ws,
        ):
            key = "ws_request_header_traceparent"
            values = ["\ud800".encode("utf-8", "replace").decode(), "x" * 5_000, 7, None, [], {}]
            for value in values:
                create = {"type": "response.create", "input": "Why?", "model": "m"}
                metadata = {"client_metadata": {key: value, "\x00": [[[]]]}}
                await ws.send_json({**create, **metadata, "stream_id": f"lane{accepted}"})
                accepted += 1
                while (await ws.receive_json(timeout=10))["type"] != "response.queued":
                    pass
            for kind in ("response.cancel", "holdline:resume", "response.steer"):
                wrong: tuple[Any, ...] = (7, [], "x", {key: {}})
                for given in wrong:
                    about = {"response_id": "resp_x", "previous_response_id": "resp_x"}
                    await ws.send_json(
                        {"type": kind, **about, "input": "a", "client_metadata": given}
                    )
        async with aiohttp.ClientSession(server.url) as http, http.get("/readyz") as answer:
            assert 200 == answer.status
        for trace in ("Traceback", "unhandled error"):
            assert trace not in server.output
        assert "\x1b" not in server.output
