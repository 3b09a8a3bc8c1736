"""Tests the tokens that an application creates for its users.

Invalid arguments must be refused.
"""

from __future__ import annotations

import json
import time
from typing import Any

import jwt
import pytest

import holdline_client

SHARED = {
    "kty": "oct",
    "kid": "shared",
    "k": "c2l4dGVlbiBieXRlcyB0d2ljZSwgYXMgYW4gZXhhbXBsZQ",
}
# The example key of RFC 8037, appendix A.1.
PRIVATE = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "pair",
    "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


def read(token: str, key: dict[str, Any]) -> dict[str, Any]:
    """Returns the claims that another library reads from the token."""
    algorithm = "HS256" if key is SHARED else "EdDSA"
    assert {"alg": algorithm, "typ": "JWT", "kid": key["kid"]} == jwt.get_unverified_header(token)
    options: Any = {"verify_aud": False}
    return jwt.decode(token, jwt.PyJWK(key, algorithm), [algorithm], options=options)


@pytest.mark.parametrize("key", [SHARED, PRIVATE], ids=["HS256", "EdDSA"])
@pytest.mark.parametrize("written", [False, True])
def test_tokens_are_readable_by_another_library(key: dict[str, Any], written: bool) -> None:
    before = int(time.time())
    token = holdline_client.mint_token(
        json.dumps(key) if written else key,
        subject="änna",
        tenant="acme",
        seconds=60,
        scopes="read create",
        models=["m"],
        prompts=[],
        audience="holdline",
        issuer="shop",
    )

    claims = read(token, key)
    iat = claims.pop("iat")
    assert before <= iat <= time.time()
    assert 60 == claims.pop("exp") - iat
    assert {
        "sub": "änna",
        "tenant": "acme",
        "scope": "read create",
        "models": ["m"],
        "prompts": [],
        "aud": "holdline",
        "iss": "shop",
    } == claims


def test_unset_claims_are_omitted_and_the_tenant_may_come_from_the_key() -> None:
    token = holdline_client.mint_token({**SHARED, "tenant": "acme"}, subject="a")
    assert {"sub", "tenant", "iat", "exp"} == read(token, SHARED).keys()


@pytest.mark.parametrize(
    ("key", "claims", "why"),
    [
        ("{", {}, "not valid JSON"),
        ("[]", {}, "not a JSON Web Key"),
        ({**SHARED, "kid": None}, {}, "not a JSON Web Key"),
        ({**SHARED, "k": "c2hvcnQ"}, {}, "32 bytes"),
        ({**SHARED, "k": "!"}, {}, "base64url"),
        ({"kty": "RSA", "kid": "a"}, {}, "must be for HS256 or EdDSA"),
        ({k: v for k, v in PRIVATE.items() if k != "d"}, {}, "no private part"),
        (SHARED, {"subject": ""}, "subject"),
        (SHARED, {"seconds": 0}, "seconds"),
        (SHARED, {"seconds": float("nan")}, "seconds"),
        (SHARED, {"tenant": None}, "tenant"),
    ],
)
def test_invalid_arguments_are_named_in_the_error(
    key: Any, claims: dict[str, Any], why: str
) -> None:
    with pytest.raises(ValueError, match=why) as wrong:
        holdline_client.mint_token(key, **{"subject": "anna", "tenant": "acme", **claims})
    assert str(SHARED["k"]) not in str(wrong.value)
