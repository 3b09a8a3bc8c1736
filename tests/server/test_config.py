"""Tests that an invalid server setting prevents the start and is named in the error."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from jobs.config.settings import ConfigError
from jobs.record import SharedSettings
from server.config import Config


def test_every_setting_has_a_default() -> None:
    config = Config.from_environ({})

    assert ("127.0.0.1", 8080, "", SharedSettings()) == (
        config.host,
        config.port,
        config.catalog.default,
        config.shared,
    )


def test_settings_are_read_from_the_environment() -> None:
    config = Config.from_environ(
        {
            "HOLDLINE_HOST": "::1",
            "HOLDLINE_PORT": "0",
            "HOLDLINE_MODEL": "simulation",
            "HOLDLINE_PING_SECONDS": "0.5",
            "HOLDLINE_MAX_BODY_BYTES": "2048",
            "HOLDLINE_LEASE_SECONDS": "1",
            "PATH": "/bin",
        }
    )

    assert ("::1", 0, "simulation", 0.5, 2048, 1000) == (
        config.host,
        config.port,
        config.catalog.default,
        config.ping_seconds,
        config.max_body_bytes,
        config.shared.lease_ms,
    )


def test_the_configuration_is_immutable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config.from_environ({}).port = 1  # type: ignore[misc]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_a_loopback_address_needs_no_keys(host: str) -> None:
    assert host == Config.from_environ({"HOLDLINE_HOST": host}).host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.x", "1"])
def test_a_public_address_without_keys_is_refused_with_the_setting_to_change(host: str) -> None:
    with pytest.raises(ConfigError, match=r"HOLDLINE_HOST=.* set HOLDLINE_HOST=127\.0\.0\.1"):
        Config.from_environ({"HOLDLINE_HOST": host})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDLINE_PORT", "65536"),
        ("HOLDLINE_PORT", "-1"),
        ("HOLDLINE_PORT", "http"),
        ("HOLDLINE_PING_SECONDS", "0"),
        ("HOLDLINE_MAX_BODY_BYTES", "10"),
        ("HOLDLINE_LEASE_SECONDS", "never"),
        ("REDIS_URL", "http://redis"),
    ],
)
def test_an_invalid_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Config.from_environ({name: value})


def test_the_error_of_an_unknown_setting_suggests_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"HOLDLINE_PORTS is not a setting.*HOLDLINE_PORT "):
        Config.from_environ({"HOLDLINE_PORTS": "1"})


@pytest.mark.parametrize(
    "origin", ["https://shop.example", "http://localhost:3000", "https://a.b:1, https://c"]
)
def test_origins_are_accepted_in_the_form_that_browsers_send(origin: str) -> None:
    assert origin.count(",") + 1 == len(
        Config.from_environ({"HOLDLINE_ALLOWED_ORIGINS": origin}).origins
    )


@pytest.mark.parametrize(
    ("origin", "write"),
    [
        ("*", "https://shop.example,https://www.shop.example"),
        ("https://*.shop.example", "https://shop.example,https://www.shop.example"),
        ("shop.example", "https://shop.example or http://shop.example"),
        ("localhost:3000", "https://localhost:3000 or http://localhost:3000"),
        ("https://shop.example/", "write https://shop.example"),
        ("https://me@shop.example:443/chat?a=b", "write https://shop.example"),
        ("tauri://localhost/", "write tauri://localhost"),
        ("ws://a", "write http://a"),
        ("https://a:99999", "for example https://shop.example"),
        ("https://", "for example https://shop.example"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_with_the_correct_form(
    origin: str, write: str
) -> None:
    with pytest.raises(ConfigError, match="HOLDLINE_ALLOWED_ORIGINS contains") as refused:
        Config.from_environ({"HOLDLINE_ALLOWED_ORIGINS": f"https://a.example, {origin}"})
    assert str(refused.value).endswith(write)


def test_origins_are_kept_as_browsers_spell_them() -> None:
    written = "HTTPS://BÜCHER.example:443, http://[0:0::1]:80,Capacitor://localhost,null"
    assert (
        "https://xn--bcher-kva.example",
        "http://[::1]",
        "capacitor://localhost",
        "null",
    ) == Config.from_environ({"HOLDLINE_ALLOWED_ORIGINS": written}).origins


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_a_server_with_keys_may_listen_on_a_public_address(host: str) -> None:
    config = Config.from_environ({"HOLDLINE_HOST": host, "HOLDLINE_API_KEYS": "redis"})
    assert (host, "holders of API keys in Redis") == (config.host, config.access.described)
    assert "everyone on this machine" == Config.from_environ({}).access.described


@pytest.mark.parametrize(
    "url", ["https://idp.example/jwks", "http://127.0.0.1:1/", "http://[::1]/"]
)
def test_a_jwks_url_must_use_https_or_loopback(url: str) -> None:
    assert Config.from_environ({"HOLDLINE_JWKS_URL": url}).access.closed


@pytest.mark.parametrize(
    "url", ["http://idp.example/", "ftp://x/", "idp", "https://", "https://a:b@idp/", "https://[/"]
)
def test_an_insecure_jwks_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="HOLDLINE_JWKS_URL"):
        Config.from_environ({"HOLDLINE_JWKS_URL": url})


@pytest.mark.parametrize("name", ["HOLDLINE_API_KEYS", "HOLDLINE_JWT_KEYS"])
@pytest.mark.parametrize("content", [None, "{", '{"keys": [{}]}', '{"keys": 1}', "[]", "\xff"])
def test_an_unusable_key_file_is_refused_by_name(
    tmp_path: Path, name: str, content: str | None
) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=f"{name}={path}"):
        Config.from_environ({name: str(path)})
