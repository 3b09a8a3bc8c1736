"""Sends requests to a model's endpoint as the openai package would send them.

For each call, the openai package examines the types of the request and builds the same headers
again, which takes longer than reading a short response. Therefore the package builds one request at
start-up, which a recording transport stores instead of sending it. Every call sends a copy of this
request with another body, through aiohttp. The package's own transport is aiohttp too, but reaches
it through another HTTP client, which takes as long as aiohttp itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import ssl
import urllib.request
import zlib
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import httpx2  # the HTTP client of the openai package
import openai
from multidict import CIMultiDict
from yarl import URL

from jobs.config.models import CHAT, RESPONSES
from runtime import tracing
from worker.config import NO_KEY

from .credentials import credential_of
from .deltas import Malformed, parse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from worker.config import Endpoint

CONNECT_SECONDS: Final = 10.0
# The limits on reading the body of an error response. Without them, an endpoint could fill the
# memory or delay the next attempt.
ERROR_BODY_SECONDS: Final = 5.0
# The HTTP statuses that may mean a refused API key. Some endpoints send 403 for an expired key.
_KEY_REFUSED: Final = (401, 403)
MAX_ERROR_BYTES: Final = 8192
MAX_PACKED_BYTES: Final = 65_536
PACKINGS: Final = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP: Final = b"\x1f\x8b"
_MAGIC_BYTES: Final = 2
_PATHS: Final = {CHAT: "/chat/completions", RESPONSES: "/responses"}
# Encodes a request body in the same way as the openai package.
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class StatusError(Exception):
    """The endpoint responded with a status other than 2xx.

    `error` is the body of the response: parsed JSON if possible, otherwise text.
    """

    def __init__(self, status: int, headers: Mapping[str, str], error: Any) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.error = error


class DecodingError(Exception):
    """A body cannot be decoded: its content encoding is unsupported, or its bytes are corrupt."""


class ModelClient:
    """The HTTP client of one endpoint. `path` is the route, by default that of the endpoint's API.

    Use it as an async context manager, in the event loop that sends the requests.
    """

    def __init__(self, endpoint: Endpoint, path: str = "") -> None:
        self._path = path or _PATHS[endpoint.api]
        self.credential = credential_of(endpoint)
        self._key_header = endpoint.api_key_header
        self._sends_traceparent = endpoint.send_traceparent
        # the headers for the most recent key
        self._headers: tuple[str, CIMultiDict[str]] | None = None
        self._options: dict[str, Any] = {
            "api_key": NO_KEY,  # a placeholder; each request gets the current key
            "base_url": endpoint.base_url,
            # The worker retries failed calls itself. Retries by the openai package would be
            # invisible to the worker, and the provider may bill each of them.
            "max_retries": 0,
            # Requests without a timeout have no header that announces one.
            "timeout": openai.Timeout(None),
        }
        self._template: httpx2.Request | None = None
        self._url = URL()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        template = self._template = await self._record_template()
        self._url = URL(str(template.url), encoded=True)
        limits = openai.DEFAULT_CONNECTION_LIMITS
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=_ssl_context(),
                limit=limits.max_connections or 0,
                keepalive_timeout=limits.keepalive_expiry,
            ),
            # The worker detects stalls itself. A timer that restarts with every received byte would
            # never fire if an endpoint sends only comments.
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS),
            auto_decompress=False,
            # With `trust_env`, aiohttp would look for a proxy in another thread for every request.
            proxy=_proxy_for(self._url),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.credential.close()
        if self._session is not None:
            await self._session.close()

    async def send(
        self, arguments: dict[str, Any] | None, below: str = "", query: str = ""
    ) -> aiohttp.ClientResponse:
        """Sends a request and returns the response, whose body is not read yet.

        With `arguments` the request is a POST with this body, without them a GET. `below` is
        appended to the path of the endpoint's API, as in `/responses/compact`.

        The caller must close the response. If the endpoint refuses the API key and a renewed key is
        available, the client repeats the request once with that key.

        Raises: StatusError, KeyUnavailable, and the errors of the transport.
        """
        body = None if arguments is None else _ENCODER.encode(arguments).encode()
        key = await self.credential.key()
        url = self._url if not below and not query else self._url_with(below, query)
        try:
            return await self._send(url, body, key)
        except StatusError as error:
            if error.status not in _KEY_REFUSED:
                raise
            if (renewed := await self.credential.renewed(key)) is None:
                raise
        return await self._send(url, body, renewed)

    async def _send(self, url: URL, body: bytes | None, key: str) -> aiohttp.ClientResponse:
        assert self._session is not None  # noqa: S101 - `__aenter__` sets it
        # The client does not follow redirects, because a redirect would send the prompt and the key
        # to an address that is not configured.
        headers = self._headers_with(key)
        if self._sends_traceparent and (context := tracing.context()):
            headers = headers.copy()
            headers["traceparent"] = context
        response = await self._session.request(
            "GET" if body is None else "POST",
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
        )
        if 200 <= response.status < 300:
            return response
        async with response:
            raise StatusError(response.status, response.headers, await _error_of(response))

    def _url_with(self, below: str, query: str) -> URL:
        assert self._template is not None  # noqa: S101 - `__aenter__` sets it
        url = self._template.url
        if below:
            url = url.copy_with(path=url.path + below)
        if query:
            url = url.copy_with(query=query.encode())
        return URL(str(url), encoded=True)

    def _headers_with(self, key: str) -> CIMultiDict[str]:
        if self._headers is not None and self._headers[0] == key:
            return self._headers[1]
        assert self._template is not None  # noqa: S101 - `__aenter__` sets it
        headers = CIMultiDict(self._template.headers.multi_items())
        if self._key_header.lower() == "authorization":
            headers["Authorization"] = f"Bearer {key}"
        else:
            del headers["Authorization"]
            headers[self._key_header] = key
        self._headers = key, headers
        return headers

    async def _record_template(self) -> httpx2.Request:
        """Returns the request that the openai package would send to the endpoint."""
        recorder = _RecordingTransport()
        http = openai.DefaultAsyncHttpxClient(
            transport=recorder, trust_env=False, verify=_ssl_context()
        )
        async with openai.AsyncOpenAI(http_client=http, **self._options) as client:
            with contextlib.suppress(openai.APIConnectionError):
                await client.post(self._path, body={}, cast_to=httpx2.Response)
        assert recorder.request is not None  # noqa: S101 - the package has sent it
        del recorder.request.headers["content-length"]  # each request has a body of another length
        return recorder.request


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """Returns the TLS context that the clients of all endpoints share.

    Loading the certificates for one context takes 40 ms and 0.4 MB of memory.
    """
    return httpx2.create_ssl_context()


def _proxy_for(url: URL) -> str | None:
    """Returns the proxy that the environment names for a URL, as the openai package would use it.

    The variables are HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
    """
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def iter_body(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Returns an iterator over the decoded bytes of an unread body."""
    return decoded(response.headers, response.content.iter_any())


def decoded(headers: Mapping[str, str], raw: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Returns an iterator over the decoded bytes of a body with these headers.

    The iterator yields all bytes that have arrived at once. Raises: DecodingError, while iterating.
    """
    packings = headers.get("content-encoding", "").lower().split(",")
    packings = [name for one in packings if (name := one.strip()) not in ("", "identity")]
    return _unpacked(raw, ", ".join(packings)) if packings else raw


async def _unpacked(packed: AsyncIterator[bytes], packing: str) -> AsyncIterator[bytes]:
    """Yields the decompressed body in pieces of at most `MAX_PACKED_BYTES`.

    Without the limit, a few compressed bytes could expand to megabytes at once. A gzip body may
    consist of several gzip members; other bytes after the last member are ignored.
    """
    if packing not in PACKINGS:
        raise DecodingError(f"unsupported content encoding {packing[:32]}")
    unpack: zlib._Decompress | None = None
    ended = False
    left = b""
    async for chunk in packed:
        left += chunk
        while len(left) >= _MAGIC_BYTES or (left and unpack is not None):
            if unpack is None:
                if ended and not left.startswith(_GZIP):
                    return
                unpack = zlib.decompressobj(wbits=_window(left))
            try:
                piece = unpack.decompress(left, MAX_PACKED_BYTES)
            except zlib.error as error:
                raise DecodingError(str(error)) from None
            left = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
            if unpack.eof:
                unpack, ended = None, True
            yield piece


def _window(head: bytes) -> int:
    """Returns zlib's parameter `wbits` for a body that begins with these bytes.

    Some servers send the encoding "deflate" without the zlib header. A zlib header is recognized by
    its first two bytes, which form a multiple of 31.
    """
    if head.startswith(_GZIP):
        return 31
    is_zlib = head[0] & 15 == zlib.DEFLATED and int.from_bytes(head[:_MAGIC_BYTES]) % 31 == 0
    return 15 if is_zlib else -15


async def _error_of(response: aiohttp.ClientResponse) -> Any:
    """Returns the beginning of an error body: parsed JSON if possible, otherwise text."""
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_BODY_SECONDS):
            async for piece in iter_body(response):
                body += piece
                if len(body) >= MAX_ERROR_BYTES:
                    break
    except Exception:  # noqa: BLE001, S110 - the status is enough without the body
        pass
    del body[MAX_ERROR_BYTES:]
    try:
        return parse(bytes(body))
    except Malformed:
        return body.decode(errors="replace")


class _RecordingTransport(httpx2.AsyncBaseTransport):
    """A transport that records the last request instead of sending it."""

    request: httpx2.Request | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.request = request
        raise httpx2.ConnectError("the request was recorded, not sent")
