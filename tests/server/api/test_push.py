"""Tests the validation of push subscriptions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from jobs.push_subscriptions import MAX_TTL_MS, Subscription
from jobs.vapid import InvalidVapidKeys, encode, new_vapid_key, parse_vapid_keys, point_of
from server.api.problem import Problem
from server.api.push import PushConfig, shown, subscription_in, ttl_of

SERVICES = ("fcm.googleapis.com", "*.push.apple.com")
KEYS = (new_vapid_key().public, new_vapid_key().public)
CONFIG = PushConfig(KEYS, devices=True, services=SERVICES, allow_private=False)
ANY = PushConfig(KEYS, devices=False, services=("*",), allow_private=False)
POINT = encode(point_of(ec.generate_private_key(ec.SECP256R1()).public_key()))
NOW = 1_800_000_000_000
BODY = {
    "endpoint": "https://fcm.googleapis.com/fcm/send/a:b",
    "expirationTime": None,
    "keys": {"p256dh": POINT, "auth": "BTBZMqHH6r4Tts7J_aSIgg"},
}


def refused(body: dict[str, Any], config: PushConfig = CONFIG) -> tuple[str, str | None]:
    with pytest.raises(Problem) as error:
        subscription_in(body, config, NOW)
    return error.value.code, error.value.param


def test_a_subscription_is_made_with_the_newest_key_unless_the_page_names_another() -> None:
    found = subscription_in(BODY, CONFIG, NOW)
    assert (KEYS[0], MAX_TTL_MS, 16) == (found.server_key, ttl_of(found, NOW), len(found.auth))
    named = subscription_in({**BODY, "application_server_key": encode(KEYS[1])}, CONFIG, NOW)
    assert KEYS[1] == named.server_key
    assert ("unknown_application_server_key", "application_server_key") == refused(
        {**BODY, "application_server_key": encode(new_vapid_key().public)}
    )


def test_the_time_of_expiry_is_kept() -> None:
    found = subscription_in({**BODY, "expirationTime": NOW + 5_000.5}, CONFIG, NOW)
    assert (NOW + 5_000, 5_000) == (found.expires_ms, ttl_of(found, NOW))
    for wrong in (NOW, NOW + 0.5, 0, -1, "tomorrow", True, 2**60, float("inf")):
        assert ("invalid_value", "expirationTime") == refused({**BODY, "expirationTime": wrong})


@pytest.mark.parametrize(
    "endpoint",
    [
        *("http://fcm.googleapis.com/a", "ftp://fcm.googleapis.com/a", "//fcm.googleapis.com/a"),
        *("https://evil.example/a", "https://fcm.googleapis.com.evil.example/a"),
        *("https://fcm.googleapis.com@evil.example/", "https://u:p@fcm.googleapis.com/"),
        *("https://evil.example/fcm.googleapis.com", "https://push.apple.com.evil.example/"),
        *("https://push.apple.com/a", "https://xpush.apple.com/a", "https://fcm.googleapis.com:x/"),
        *(
            "https:///a",
            "https://[/a",
            "https://fcm.googleapis.com/\n",
            "https://fcm.googleapis.com/é",
        ),
        *("", None, 5, [], "https://fcm.googleapis.com/" + "a" * 2048),
    ],
)
def test_an_endpoint_at_another_host_is_refused(endpoint: Any) -> None:
    assert ("invalid_value", "endpoint") == refused({**BODY, "endpoint": endpoint})


@pytest.mark.parametrize(
    ("services", "endpoint", "is_allowed"),
    [
        ("push.example", "https://push.example/a", True),
        ("push.example", "https://push.example:443/a", True),
        ("push.example", "https://push.example:22/a", False),
        ("push.example", "https://push.example:0/a", False),
        ("push.example:8443", "https://push.example:8443/a", True),
        ("push.example:8443", "https://push.example/a", True),
        ("push.example:8443", "https://push.example:8444/a", False),
        ("*.push.example:8443", "https://a.push.example:8443/a", True),
        ("push.example other.example:22", "https://push.example:22/a", False),
        ("push.example push.example:22", "https://push.example:22/a", True),
        ("2001:db8::1", "https://[2001:db8::1]:22/a", False),
    ],
)
def test_an_endpoint_uses_the_port_of_its_push_service(
    services: str, endpoint: str, is_allowed: bool
) -> None:
    config = replace(CONFIG, services=tuple(services.split()))
    if is_allowed:
        assert endpoint == subscription_in({**BODY, "endpoint": endpoint}, config, NOW).endpoint
    else:
        assert ("invalid_value", "endpoint") == refused({**BODY, "endpoint": endpoint}, config)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]", "[::ffff:10.0.0.1]"),
        *("localhost", "a.localhost", "LOCALHOST"),
    ],
)
def test_a_private_address_is_refused_although_every_host_is_allowed(host: str) -> None:
    assert ("invalid_value", "endpoint") == refused({**BODY, "endpoint": f"https://{host}/a"}, ANY)
    other = "https://push.example:8443/a"
    assert other == subscription_in({**BODY, "endpoint": other}, ANY, NOW).endpoint


@pytest.mark.parametrize(
    ("keys", "param"),
    [
        (None, "keys"),
        ([], "keys"),
        ({"auth": "BTBZMqHH6r4Tts7J_aSIgg"}, "keys.p256dh"),
        ({"p256dh": POINT}, "keys.auth"),
        ({"p256dh": POINT, "auth": "BTBZ"}, "keys.auth"),
        ({"p256dh": POINT, "auth": "B" * 5000}, "keys.auth"),
        ({"p256dh": "!", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}, "keys.p256dh"),
        ({"p256dh": encode(b"\4" + b"\1" * 64), "auth": "BTBZMqHH6r4Tts7J_aSIgg"}, "keys.p256dh"),
        ({"p256dh": encode(b"\2" + b"\1" * 32), "auth": "BTBZMqHH6r4Tts7J_aSIgg"}, "keys.p256dh"),
        ({"p256dh": encode(bytes(65)), "auth": "BTBZMqHH6r4Tts7J_aSIgg"}, "keys.p256dh"),
    ],
)
def test_keys_that_cannot_encrypt_are_refused(keys: Any, param: str) -> None:
    assert ("invalid_value", param) == refused({**BODY, "keys": keys})


def test_unknown_members_are_refused_by_name() -> None:
    assert ("unknown_parameter", "owner") == refused({**BODY, "owner": "acme/ben"})
    wrong = {**BODY["keys"], "x": 1}  # type: ignore[dict-item]
    assert ("unknown_parameter", "keys.x") == refused({**BODY, "keys": wrong})
    assert ("unknown_parameter", "endpoint") == refused({**BODY, "device": "a"})


def test_a_device_is_accepted_only_if_the_site_sends_to_devices() -> None:
    assert "apns:1" == subscription_in({"device": "apns:1"}, CONFIG, NOW).device
    for wrong in ("", None, 5, "a" * 4097, "a\n", "é", "\ud800"):
        assert ("invalid_value", "device") == refused({"device": wrong})
    assert ("push_not_configured", None) == refused({"device": "a"}, ANY)
    none = PushConfig((), devices=True, services=SERVICES, allow_private=False)
    assert ("push_not_configured", None) == refused(BODY, none)


def test_the_object_of_a_subscription_contains_no_address_and_no_key() -> None:
    found = shown("push_1", subscription_in(BODY, CONFIG, NOW))
    assert ("browser", "fcm.googleapis.com") == (found["type"], found["service"])
    assert "send" not in str(found)
    assert POINT not in str(found)
    device = shown("push_1", Subscription(NOW, device="token"))
    assert ("device", None) == (device["type"], device["service"])
    assert "token" not in str(device)


def test_a_file_of_vapid_keys_is_read_in_its_order_and_errors_contain_no_key() -> None:
    first, second = new_vapid_key(), new_vapid_key()
    text = f"{first.written}\n{second.written}\n"
    assert [first.public, second.public] == list(parse_vapid_keys(text))
    assert first.written not in repr(first)
    for wrong in (
        "",
        "a",
        first.written * 2,
        f"{text}{text}",
        f"{encode(bytes(32))}",
        "é",
        text * 6,
    ):
        with pytest.raises(InvalidVapidKeys) as error:
            parse_vapid_keys(wrong)
        assert first.written not in str(error.value)


@pytest.mark.parametrize("content", ["A" * 3_000_000, "A\n" * 1_500_000])
def test_the_error_for_a_large_file_of_vapid_keys_names_the_limit(content: str) -> None:
    with pytest.raises(InvalidVapidKeys, match=r"at most 4096 characters, not 3000000"):
        parse_vapid_keys(content)
