"""Tests the HTTP requests that the server refuses, and their error messages."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request

from server.app import SERVER
from tests.jobs.proxy import Proxy
from tests.server.factories import RESPONSE
from tests.server.http.steps import ALL, background, refusal
from tests.system import wait_until

Client = TestClient[Request, Application]
Serve = Callable[..., Awaitable[Client]]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b"\xff", "invalid_json", None),
        (b'{"input": "\\ud800"}', "invalid_json", None),
        (b'{"input": "\xfc"}', "invalid_json", None),
        (b"[" * 100_000, "invalid_json", None),
        (b'{"input": 5}', "invalid_value", "input"),
        (b'{"input": []}', "invalid_value", "input"),
        (b'{"input": "x", "temperature": 9}', "invalid_value", "temperature"),
        (b'{"input": "x", "tools": [{}]}', "missing_required_parameter", "tools[0].type"),
        (b'{"input": "x", "nonsense": 1}', "unknown_parameter", "nonsense"),
    ],
)
async def test_an_invalid_body_is_refused_by_field(
    client: Client, body: bytes, code: str, param: str | None
) -> None:
    async with client.post(ALL, data=body) as response:
        assert (400, code, param) == await refusal(response)


async def test_a_body_that_is_too_large_is_refused(serve: Serve) -> None:
    client = await serve(max_body_bytes="2048")
    async with client.post(ALL, json={"input": "x" * 3000}) as response:
        assert (413, "body_too_large", None) == await refusal(response)


async def test_the_refusal_of_a_full_queue_says_when_to_retry(serve: Serve) -> None:
    client = await serve(max_waiting="1")
    await background(client)
    async with client.post(ALL, json={"input": "x", "background": True}) as response:
        assert (429, "queue_full", None) == await refusal(response)
        assert int(response.headers["Retry-After"]) > 0


async def test_requests_during_an_outage_of_redis_get_a_retry_time_and_succeed_afterwards(
    serve: Serve, redis_url: str
) -> None:
    async with Proxy(redis_url) as proxy:
        client = await serve(url=proxy.url)
        server = client.app[SERVER]
        server.pipe._deadline = 0.4
        id_ = await background(client)
        proxy.stop_forwarding()
        for method, url in [("POST", ALL), ("GET", f"{ALL}/{id_}"), ("DELETE", f"{ALL}/{id_}")]:
            body = {"input": "x"} if url == ALL else None
            async with client.request(method, url, json=body) as response:
                assert (503, "service_unavailable", None) == await refusal(response)
                assert int(response.headers["Retry-After"]) > 0
        async with client.get("/livez") as response:
            assert 200 == response.status
        async with client.get("/readyz") as response:
            assert 503 == response.status
        proxy.forward_again()
        await wait_until(lambda: server.pipe.connected)

        async with client.get(f"{ALL}/{id_}") as response:
            assert 200 == response.status
        await client.close()


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v2/responses", 404),
        ("PUT", ALL, 405),
        ("PATCH", f"{ALL}/{RESPONSE}", 405),
        ("GET", ALL, 426),
    ],
)
async def test_unknown_routes_are_refused_in_the_standard_form(
    client: Client, method: str, url: str, status: int
) -> None:
    async with client.request(method, url) as response:
        assert status == (await refusal(response))[0]


async def test_a_refusal_names_the_supported_methods_and_protocol(client: Client) -> None:
    async with client.put(ALL) as response:
        assert (405, "GET, POST") == (response.status, response.headers["Allow"])
    async with client.get(ALL) as response:
        assert (426, "websocket") == (response.status, response.headers["Upgrade"])
    old = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "12"}
    async with client.get(ALL, headers=old) as response:
        assert (426, "13") == (response.status, response.headers["Sec-WebSocket-Version"])
    async with client.post(ALL, headers={"Content-Encoding": "zstd"}) as response:
        assert (415, "gzip, deflate") == (response.status, response.headers["Accept-Encoding"])
    for path in ("/health", "/livez"):
        async with client.get(path) as response:
            assert (200, {"status": "ok"}) == (response.status, await response.json())
    async with client.get("/docs/nothing") as response:
        assert (404, "not_found", None) == await refusal(response)


PACKED = zlib.compress(b'{"input": ""}')


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("zstd", b"(\xb5/\xfd  ", 415, "unsupported_encoding"),
        ("br", b"\x0b\x02\x80{}\x03", 415, "unsupported_encoding"),
        ("gzip, deflate", PACKED, 415, "unsupported_encoding"),
        ("gzip", b"(\xb5/\xfd  ", 400, "undecodable_body"),
        ("deflate", b"", 400, "undecodable_body"),
        ("deflate", PACKED[:-1], 400, "undecodable_body"),
        ("gzip", gzip.compress(b"[]", mtime=0), 400, "invalid_json"),
        ("x-gzip", gzip.compress(b"[]", mtime=0), 400, "invalid_json"),
        ("Deflate", zlib.compress(b"[]"), 400, "invalid_json"),
        ("deflate", zlib.compress(b"[]", wbits=-15), 400, "invalid_json"),
        ("identity", b"[]", 400, "invalid_json"),
    ],
)
async def test_an_encoded_body_is_decoded_or_refused(
    client: Client, encoding: str, body: bytes, status: int, code: str
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "application/json"}
    async with client.post(ALL, data=body, headers=headers) as response:
        assert (status, code, None) == await refusal(response)


async def test_the_configured_model_is_listed(client: Client) -> None:
    async with client.get("/v1/models") as response:
        body = await response.json()

    assert ("list", ["simulation"]) == (body["object"], [model["id"] for model in body["data"]])
