"""Tests that a server without keys accepts only loopback host names and the configured hosts."""

from __future__ import annotations

import aiohttp
import pytest

from jobs.config.settings import ConfigError
from server.config import Config
from server.http.hosts import PROBES, SETTING, Hosts
from tests.system import System


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "localhost", "LocalHost:8080"),
        *("chat.localhost:80", "[::1]", "[::1]:8080", "chat.example", "Chat.Example:8443"),
        *("xn--bcher-kva.example", None),
    ],
)
def test_loopback_and_listed_names_pass(host: str | None) -> None:
    hosts = Config.from_environ({SETTING: "chat.example, bücher.example"}).hosts
    assert hosts is not None
    assert Hosts(hosts).allows(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("chat.example.evil.example", "10.0.0.1", "0.0.0.0", "[fe80::1]", "", " ", "a b", "a@b"),
        *("chat.example, evil.example", "127.0.0.1:x", "2130706433", "xlocalhost"),
    ],
)
def test_other_names_are_refused(host: str) -> None:
    assert not Hosts({"chat.example"}).allows(host)


@pytest.mark.parametrize(
    "written", ["http://a.example", "a.example:80", "*.a.example", "a b", "a/"]
)
def test_an_invalid_host_name_in_the_setting_stops_the_start(written: str) -> None:
    with pytest.raises(ConfigError, match="HOLDLINE_ALLOWED_HOSTS contains"):
        Config.from_environ({SETTING: written})


def test_with_keys_any_name_passes_unless_names_are_listed() -> None:
    keys = {"HOLDLINE_API_KEYS": "redis"}
    assert Config.from_environ(keys).hosts is None
    assert frozenset({"a.example"}) == Config.from_environ(keys | {SETTING: "a.example"}).hosts


async def test_a_rebound_name_is_refused_with_the_setting_to_change(system: System) -> None:
    server = await system.server(**{SETTING: "chat.example"})
    rebound = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
    async with aiohttp.ClientSession(server.url) as http:
        for path in ("/", "/v1/models", "/metrics", "/openapi.json"):
            async with http.get(path, headers=rebound) as response:
                error = (await response.json())["error"]
                assert (403, "host_not_allowed") == (response.status, error["code"])
                assert f"{SETTING}=evil.example" in error["message"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect("/v1/responses", headers=rebound)
        assert 403 == refused.value.status
        for path in PROBES:
            async with http.get(path, headers=rebound) as response:
                assert 200 == response.status
        listed = {"Host": "chat.example", "Origin": "https://chat.example"}
        async with http.get("/v1/models", headers=listed) as response:
            assert 200 == response.status
