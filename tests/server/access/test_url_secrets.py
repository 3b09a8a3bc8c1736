"""Tests that credentials in URLs are found, whatever the parameter's name.

Other parameters are accepted.
"""

from __future__ import annotations

import pytest

from server.access.url_secrets import check_url
from server.api.problem import Problem

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


@pytest.mark.parametrize(
    "name",
    [
        *("token", "access_token", "id_token", "refresh-token", "X-Auth-Token", "auth[token]"),
        *("key", "Key", "api_key", "api-key", "X-Api-Key", "apikeys", "subscription-key"),
        *("secret", "client_secret", "password", "passwd", "pwd", "auth", "Authorization"),
        *("bearer", "jwt", "credential", "credentials", "session", "sessionid", "sig", "oauth"),
    ],
)
def test_a_secret_is_found_by_its_name(name: str) -> None:
    with pytest.raises(Problem) as refused:
        check_url({"stream": "true", name: "canary"})
    assert refused.value.code == "token_in_url"
    assert name == refused.value.error["param"]
    assert "canary" not in str(refused.value.error)


@pytest.mark.parametrize(
    "value", [JWT, "hl_abcdefgh_0123456789", "sk-proj-0123456789abc", f"Bearer {JWT}", "bearer x"]
)
def test_a_secret_is_found_by_its_form(value: str) -> None:
    for query in ({"x": value}, {value: ""}, {f" {value} ": "1"}):
        with pytest.raises(Problem) as refused:
            check_url(query)
        assert value not in str(refused.value.error)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("starting_after", "12"), ("stream", "true"), ("include[]", "reasoning.content")),
        *(("after", "msg_0123456789abcdef"), ("limit", "20"), ("order", "asc")),
        *(("author", "somebody"), ("keyword", "risk-averse"), ("api-version", "2026-01-01")),
        *(("", ""), ("monkey", "eyJ.x"), ("code", "sk-short"), ("include_obfuscation", "false")),
    ],
)
def test_an_ordinary_parameter_passes(name: str, value: str) -> None:
    check_url({name: value})
