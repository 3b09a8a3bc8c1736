"""Tests that a provider's API key is found in key files and in the output of cloud commands."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.upstream.key_text import MAX_KEY, KeyText, key_of

NOW = 1_795_933_000.0


def jwt(**claims: Any) -> str:
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{body}.c2ln"


@pytest.mark.parametrize(
    ("text", "key", "seconds"),
    [
        ("sk-1\n", "sk-1", None),
        ('"ya29.x"\n', "ya29.x", None),
        (jwt(exp=NOW + 60), jwt(exp=NOW + 60), 60),
        (jwt(sub="me"), jwt(sub="me"), None),
        # az: `expiresOn` has no time zone; `expires_on` is a timestamp and needs none.
        (
            {"accessToken": "a", "expiresOn": "2020-01-01 00:00:00.000000", "expires_on": NOW + 9},
            "a",
            9,
        ),
        # Output of azd and of the AWS command.
        ({"token": "a", "expiresOn": "2026-11-29T06:56:40.1234567Z"}, "a", 2400.123456),
        ({"key": "a", "expiration": "2026-11-29T06:16:40+00:00"}, "a", 0),
        # Output of a metadata server, of gcloud, and of Kubernetes.
        ({"access_token": "a", "expires_in": 3599, "token_type": "Bearer"}, "a", 3599),
        ({"access_token": "a", "expires_in": "3599", "expires_on": str(int(NOW + 7))}, "a", 7),
        ({"credential": {"access_token": "a", "token_expiry": "2026-11-29T06:16:50Z"}}, "a", 10),
        ({"status": {"token": "a", "expirationTimestamp": "2026-11-29T06:16:41Z"}}, "a", 1),
        ({"access_token": jwt(exp=NOW + 5), "refresh_token": "no"}, jwt(exp=NOW + 5), 5),
        ({"apiKey": "a", "expiresAt": (NOW + 3) * 1000}, "a", 3),
        ({"token": "a", "expires_in": "soon", "expiry": None, "exp": True}, "a", None),
    ],
)
def test_keys_are_found_in_the_output_of_cloud_tools(
    text: Any, key: str, seconds: float | None
) -> None:
    found = key_of(text if isinstance(text, str) else json.dumps(text, indent=1), NOW)
    assert key == found.key
    left = None if found.ends_at is None else found.ends_at - NOW
    assert left == (None if seconds is None else pytest.approx(seconds, abs=1e-3))
    assert repr(found).startswith("KeyText(ends_at=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "two words",
        "ERROR: sk-1\nplease log in",
        "sk-\x00",
        "schlüssel",
        "k" * (MAX_KEY + 1),
        "{",
        "{}",
        '{"token": ""}',
        '{"token": 7}',
        '{"private_key": "sk-1", "token_uri": "https://x"}',
        '{"token": "a\\r\\nX-Other: b"}',
        "[" * 10_000,
        '{"a":' * 10_000,
    ],
)
def test_text_without_a_key_is_rejected_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match=r"^the (key|text|JSON) ") as caught:
        key_of(text, NOW)
    assert "sk-1" not in str(caught.value)


@given(st.text() | st.recursive(st.none() | st.text(), st.lists).map(json.dumps))
def test_any_text_is_a_valid_header_value_or_rejected(text: str) -> None:
    try:
        found: KeyText = key_of(text, NOW)
    except ValueError:
        return
    assert found.key.isascii()
    assert found.key.isprintable()
    assert " " not in found.key
