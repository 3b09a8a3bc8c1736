"""Tests allowed origins: equivalent spellings, origins of native apps, and requested headers."""

from __future__ import annotations

import re

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.config import Config
from server.http.origins import EXPOSED_HEADERS, SETTING, Origins, _advice
from server.origin import canonical
from tests.system import CODE, System

HOST = "holdline.example:8080"
SITE = "http://shop.example:31090"


def origins(written: str) -> Origins:
    return Origins(Config.from_environ({SETTING: written}).origins)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example:443", "https://xn--bcher-kva.example"),
        ("https://bu\u0308cher.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://bücher.example"),
        ("https://XN--BCHER-KVA.example", "https://xn--bcher-kva.example"),
        ("https://例え.テスト:8443", "https://xn--r8jz45g.xn--zckzah:8443"),
        ("http://Shop.Example:80", "http://shop.example"),
        ("http://my_host:3000", "http://my_host:3000"),
        ("http://[0:0:0::1]:3000", "http://[::1]:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("ionic://localhost", "ionic://localhost"),
        ("tauri://localhost", "tauri://localhost"),
        ("app://.", "app://."),
        ("app://obsidian.md", "app://obsidian.md"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("moz-extension://1F-2e", "moz-extension://1f-2e"),
        ("file://", "file://"),
        ("null", "null"),
    ],
)
def test_every_spelling_of_an_allowed_origin_is_accepted(written: str, sent: str) -> None:
    assert origins(written).allows(sent, HOST)
    assert origins(f"https://a.example, {written},").allows(sent, HOST)
    assert not origins("https://a.example").allows(sent, HOST)


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://bücher.example", "https://bucher.example"),
        ("https://shop.example", "https://shop.example:8443"),
        ("https://shop.example:80", "http://shop.example"),
        ("capacitor://localhost", "tauri://localhost"),
        ("capacitor://localhost", "capacitor://localhost.evil.example"),
        ("tauri://localhost", "http://localhost"),
        ("null", ""),
        ("null", "NULL"),
        ("null", "null, null"),
    ],
)
def test_other_origins_are_refused(written: str, sent: str) -> None:
    assert not origins(written).allows(sent, HOST)


@pytest.mark.parametrize(
    "host", ["holdline.example", "Holdline.Example:80", "holdline.example:443"]
)
def test_the_servers_own_origin_matches_without_a_default_port(host: str) -> None:
    scheme = "https" if host.endswith(":443") else "http"
    assert origins("").allows(f"{scheme}://holdline.example", host)
    assert not origins("").allows("http://evil.example", host)


SCHEMES = st.sampled_from(
    ["http", "https", "HTTP", "ws", "wss", "capacitor", "app", "moz-extension"]
)
NAMES = st.one_of(
    st.sampled_from(["localhost", "[::1]", "127.0.0.1", "", ".", "bücher.example", "a_b", "*.a"]),
    st.text(min_size=1, max_size=12),
)
PORTS = st.one_of(st.just(""), st.integers(-1, 70_000).map(lambda port: f":{port}"))
SENT = st.one_of(st.just("null"), st.text(), st.builds("{}://{}{}".format, SCHEMES, NAMES, PORTS))


@given(SENT)
@example("https://a,b")
@example("null")
@example("https://faß.example:0443")
def test_the_setting_suggested_by_a_refusal_allows_the_origin(sent: str) -> None:
    for before in ("", "https://a.example"):
        assert origins(before).allows(sent, HOST) == (sent == before != "")
        advice = _advice(sent, others=bool(before))
        told = re.search(rf"{SETTING}=(\S+) \(separate several sites with commas\)\.$", advice)
        if told is None:
            assert canonical(sent) is None
            continue
        assert origins(told[1]).allows(sent, HOST)
        assert origins(f"{before},{told[1]}").allows(sent, HOST)
        assert canonical(told[1]) == told[1]


async def preflight(http: aiohttp.ClientSession, asked: str) -> set[str]:
    headers = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    async with http.options("/v1/chat/completions", headers=headers) as response:
        assert (204, SITE) == (response.status, response.headers["Access-Control-Allow-Origin"])
        assert "Access-Control-Request-Headers" in response.headers.getall("Vary")
        return {
            name.lower() for name in response.headers["Access-Control-Allow-Headers"].split(", ")
        }


async def test_a_preflight_allows_the_headers_that_it_asks_for(system: System) -> None:
    server = await system.server(HOLDLINE_ALLOWED_ORIGINS=SITE)
    own = {"authorization", "content-type", "idempotency-key", "last-event-id"}
    stainless = {
        f"x-stainless-{name}"
        for name in ["arch", "lang", "os", "package-version", "retry-count", "runtime", "timeout"]
    }
    async with aiohttp.ClientSession(server.url) as http:
        asked = ",".join(["authorization", "content-type", *sorted(stainless)])
        assert own | stainless == await preflight(http, asked)
        assert own | {"x-a"} == await preflight(http, f"x-a, x b,,x(c),{'d' * 65},X-A, x:y")
        many = await preflight(http, ",".join(f"x-{number}" for number in range(1000)))
        assert len(many) <= 64 + len(own)
        foreign = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        async with http.options("/v1/responses", headers=foreign) as response:
            assert 403 == response.status
            assert "Access-Control-Allow-Headers" not in response.headers


def test_a_page_may_read_every_header_that_is_for_clients() -> None:
    sources = [path.read_text() for path in (CODE / "server").rglob("*.py")]
    found = set(re.findall(r'"(X-(?:RateLimit-|Response-|Should-)[\w-]+)"', "".join(sources)))
    assert {"Retry-After", *found} == set(EXPOSED_HEADERS.split(", "))
    assert len(found) > 10


async def test_the_cors_header_repeats_the_origin_of_an_app_exactly(system: System) -> None:
    written = "capacitor://localhost,null,https://BÜCHER.example"
    server = await system.server(HOLDLINE_ALLOWED_ORIGINS=written)
    async with aiohttp.ClientSession(server.url) as http:
        for origin in ("capacitor://localhost", "null", "https://xn--bcher-kva.example"):
            async with http.get("/v1/models", headers={"Origin": origin}) as response:
                assert 200 == response.status
                assert origin == response.headers["Access-Control-Allow-Origin"]
            async with http.ws_connect("/v1/responses", headers={"Origin": origin}) as socket:
                assert not socket.closed
