"""Tests that Holdline's model calls are identical to those of the OpenAI SDK."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from multidict import CIMultiDict

from tests.fake_model import FakeModel
from tests.replay import ReplayedEndpoint
from tests.worker.harness import configured
from worker.config import load
from worker.upstream.client import (
    ERROR_BODY_SECONDS,
    MAX_ERROR_BYTES,
    MAX_PACKED_BYTES,
    DecodingError,
    ModelClient,
    StatusError,
    decoded,
)

ARGUMENTS: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "mode=ok é"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 7,
}


@pytest.fixture
async def client(model: FakeModel) -> AsyncIterator[ModelClient]:
    endpoint = configured("redis://127.0.0.1:9/0", model).single
    assert endpoint is not None
    async with ModelClient(endpoint) as client:
        yield client


async def test_a_call_is_sent_as_the_sdk_would_send_it(
    model: FakeModel, client: ModelClient
) -> None:
    async with await client.send(ARGUMENTS) as response:
        await response.read()
    async with openai.AsyncOpenAI(
        api_key="sk-secret",
        base_url=model.url,
        http_client=openai.DefaultAioHttpClient(),
        timeout=openai.Timeout(None),
    ) as sdk:
        async for _ in await sdk.chat.completions.create(**ARGUMENTS):
            pass
    ours, theirs = model.calls
    assert theirs.headers == ours.headers
    assert theirs.body == ours.body


async def test_clients_share_one_load_of_the_ca_certificates(
    monkeypatch: pytest.MonkeyPatch, model: FakeModel
) -> None:
    endpoint = configured("redis://127.0.0.1:9/0", model).single
    assert endpoint is not None
    made = []
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: made.append(1))
    for _ in range(3):
        async with ModelClient(endpoint):
            pass
    assert len(made) <= 1


async def sent(*pieces: bytes) -> AsyncIterator[bytes]:
    """A body that arrives in pieces, as from the network."""
    for piece in pieces:
        yield piece


def headers(encoding: str) -> CIMultiDict[str]:
    return CIMultiDict({"Content-Encoding": encoding})


async def test_plain_bodies_are_passed_through_and_encoded_bodies_are_decoded() -> None:
    plain = decoded(headers(""), sent(b"data: a\n", b"\n"))
    assert [b"data: a\n", b"\n"] == [piece async for piece in plain]
    packed = gzip.compress(b"data: a\n\n")
    encoded = decoded(headers("gzip"), sent(packed[:9], packed[9:]))
    assert b"data: a\n\n" == b"".join([piece async for piece in encoded])


@pytest.mark.parametrize("packing", ["gzip", "deflate", "raw deflate"])
async def test_a_compressed_body_is_decompressed_in_bounded_pieces(packing: str) -> None:
    wbits = {"gzip": 31, "deflate": 15, "raw deflate": -15}[packing]
    pack = zlib.compressobj(wbits=wbits)
    packed = pack.compress(b"a" * 10_000_000) + pack.flush()
    assert len(packed) < 20_000
    body = decoded(headers(packing.rpartition(" ")[2]), sent(packed[:5000], packed[5000:]))
    sizes = [len(piece) async for piece in body]
    assert (10_000_000, MAX_PACKED_BYTES) == (sum(sizes), max(sizes))


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_gzip_body_may_have_several_members(size: int) -> None:
    packed = gzip.compress(b"data: a\n\n") + gzip.compress(b"data: b\n\n") + b"\0\0\0"
    pieces = sent(*(packed[at : at + size] for at in range(0, len(packed), size)))
    body = decoded(headers("gzip, identity"), pieces)
    assert b"data: a\n\ndata: b\n\n" == b"".join([piece async for piece in body])


async def test_bytes_after_the_end_of_a_compressed_body_are_discarded() -> None:
    body = decoded(headers("gzip"), sent(gzip.compress(b"data: a\n\n"), b"x", b"x"))
    assert [b"data: a\n\n"] == [piece async for piece in body]


@pytest.mark.parametrize("wbits", [31, 15, -15])
async def test_a_compressed_body_may_arrive_byte_by_byte(wbits: int) -> None:
    pack = zlib.compressobj(wbits=wbits)
    packed = pack.compress(b"data: a\n\n") + pack.flush()
    body = decoded(headers("deflate"), sent(*(bytes([byte]) for byte in packed)))
    assert b"data: a\n\n" == b"".join([piece async for piece in body])


@pytest.mark.parametrize("packing", ["br", "gzip"])
async def test_a_corrupt_compressed_body_is_an_error(packing: str) -> None:
    with pytest.raises(DecodingError):
        await anext(decoded(headers(packing), sent(b"data: a")))


async def test_a_refused_call_reports_status_headers_and_error(client: ModelClient) -> None:
    asked = ARGUMENTS | {"messages": [{"role": "user", "content": "mode=busy after=3"}]}
    with pytest.raises(StatusError) as caught:
        await client.send(asked)
    assert (429, "3", "fake") == (
        caught.value.status,
        caught.value.headers["retry-after"],
        caught.value.error["error"]["code"],
    )
    assert "sk-secret" not in repr(caught.value)


def refusal(body: bytes, *headers: str, status: str = "400 X") -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"])
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + body


async def refused(reply: bytes, *, closes: bool = True) -> StatusError:
    async with ReplayedEndpoint([reply], closes=closes) as endpoint:
        error = await refused_by(endpoint.url)
        assert 1 == len(endpoint.bodies)
    return error


async def refused_by(url: str) -> StatusError:
    config = load({"REDIS_URL": "redis://127.0.0.1:9/0", "OPENAI_BASE_URL": url})
    assert config.single is not None
    async with ModelClient(config.single) as client:
        with pytest.raises(StatusError) as caught:
            await client.send(ARGUMENTS)
    return caught.value


@pytest.mark.parametrize("packed", [False, True])
async def test_error_bodies_are_bounded_before_and_after_decompression(packed: bool) -> None:
    body = b"x" * 1_000_000
    sent = gzip.compress(body) if packed else body
    head = "HTTP/1.1 400 X\r\n" + "Content-Encoding: gzip\r\n" * packed
    reply = f"{head}Content-Length: {2 * len(sent)}\r\n\r\n".encode() + sent
    # Without the size limit, the client would wait `ERROR_BODY_SECONDS` for the rest of the body.
    async with asyncio.timeout(ERROR_BODY_SECONDS - 1):
        error = await refused(reply, closes=False)
    assert MAX_ERROR_BYTES == len(error.error)


async def test_a_compressed_error_body_is_decoded() -> None:
    body = gzip.compress(b'{"error":{"code":"context_length_exceeded"}}')
    error = await refused(refusal(body, "Content-Encoding: gzip"))
    assert {"error": {"code": "context_length_exceeded"}} == error.error


async def test_a_corrupt_compressed_error_body_keeps_its_status() -> None:
    for encoding in ("gzip", "br", "zstd"):
        error = await refused(refusal(b"no", f"Content-Encoding: {encoding}"))
        assert (400, "") == (error.status, error.error)


async def test_redirects_are_not_followed() -> None:
    async with ReplayedEndpoint([b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"]) as other:
        error = await refused(
            refusal(b"", f"Location: {other.url}", status="307 Temporary Redirect")
        )
        assert 307 == error.status
        assert [] == other.bodies


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
async def test_a_proxy_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    reply = b"HTTP/1.1 400 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with ReplayedEndpoint([reply]) as proxy:
        address = proxy.url.removeprefix("http://").removesuffix("/v1")
        monkeypatch.setenv(variable, f"http://user:secret@{address}")
        error = await refused_by("http://model.invalid/v1")
    assert 400 == error.status
    assert ["http://model.invalid/v1/chat/completions"] == proxy.paths
    assert "basic dxnlcjpzzwnyzxq=" == proxy.headers[0]["proxy-authorization"]


@pytest.mark.parametrize("excluded", ["127.0.0.1", "*", "localhost,127.0.0.1"])
async def test_a_model_that_is_excluded_from_the_proxy_is_called_directly(
    monkeypatch: pytest.MonkeyPatch, excluded: str
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", excluded)
    assert 400 == (await refused(refusal(b""))).status
