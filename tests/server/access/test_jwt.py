"""Tests which JWTs are accepted, and that all others are refused with the same message."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from admin.signers import new_pair
from holdline_client import mint_token
from server.access.jwt import Keys, Rules, kid_of, parse_keys, verified
from server.api.problem import Problem
from tests.server.auth_helpers import unix

PRIVATE, PUBLIC = new_pair("ed", "EdDSA", None)
SHARED, _ = new_pair("hs", "HS256", None)
OURS_PRIVATE, OURS = new_pair("ours", "EdDSA", "acme")
KEYS = parse_keys(json.dumps({"keys": [PUBLIC, SHARED, OURS]}))
GOOD: dict[str, Any] = {"sub": "anna", "tenant": "acme", "exp": 1800}


def check(token: str, rules: Rules | None = None, keys: Keys = KEYS) -> Any:
    kid = kid_of(token)
    if kid not in keys:
        raise Problem(401, "invalid_token", "")
    return verified(token, keys[kid], rules or Rules(), unix())


def signed(jwk: dict[str, Any] = PRIVATE, header: Any = None, **claims: Any) -> str:
    """Returns a token that another library has signed.

    Times such as `exp` are in seconds from now; claims that are None are omitted.
    """
    said = {k: v for k, v in (GOOD | claims).items() if v is not None}
    now = unix()
    for name in ("exp", "nbf", "iat"):
        if isinstance(said.get(name), int | float):
            said[name] += now
    headers = {"kid": jwk["kid"], **(header or {})}
    return jwt.encode(said, jwt.PyJWK(jwk).key, jwk["alg"], headers=headers)


def raw(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(p).rstrip(b"=").decode() for p in parts)


@pytest.mark.parametrize("key", [PRIVATE, SHARED, OURS_PRIVATE], ids=lambda k: k["kid"])
@pytest.mark.parametrize("make", [signed, lambda k: mint_token(k, subject="anna", tenant="acme")])
def test_tokens_of_any_library_are_accepted(key: dict[str, Any], make: Callable[..., str]) -> None:
    who = check(make(key))

    assert ("acme", "anna", "acme/anna") == (who.tenant, who.subject, who.viewer)
    assert frozenset({"create", "read", "cancel"}) == who.scopes
    assert (None, None) == (who.models, who.prompts)


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (lambda: rsa.generate_private_key(65537, 2048), "RS256"),
    ],
)
def test_keys_of_identity_providers_are_accepted(make: Callable[[], Any], algorithm: str) -> None:
    private = make()
    made = jwt.get_algorithm_by_name(algorithm)
    public = json.loads(made.to_jwk(private.public_key()))
    keys = parse_keys(json.dumps({"keys": [{**public, "kid": "idp"}]}), public_only=True)
    token = jwt.encode(
        GOOD | {"exp": unix() + 60}, private, algorithm, headers={"kid": "idp", "typ": "at+jwt"}
    )

    assert "anna" == check(token, keys=keys).subject


def test_a_token_grants_only_its_scopes() -> None:
    who = check(mint_token(PRIVATE, subject="a", tenant="t", scopes=["read"], models="m n"))
    assert (frozenset({"read"}), frozenset({"m", "n"})) == (who.scopes, who.models)
    assert frozenset() == check(signed(scope="openid profile")).scopes
    assert frozenset({"read"}) == check(signed(scope="read admin")).scopes
    assert frozenset({"p"}) == check(signed(prompts=["p"])).prompts
    assert frozenset() == check(signed(models=[])).models


def test_the_key_of_a_tenant_signs_tokens_of_that_tenant_only() -> None:
    assert "acme" == check(mint_token(OURS_PRIVATE, subject="anna")).tenant
    with pytest.raises(Problem, match="revoked or unknown"):
        check(signed(OURS_PRIVATE, tenant="other"))


SOON = int(unix()) + 1800
CONFUSED = jwt.PyJWK(PUBLIC).key.public_bytes_raw()
# Tokens that depend on the time are created when the test runs.
BAD: dict[str, str | Callable[[], str]] = {
    "alg none": raw({"alg": "none", "kid": "ed"}, GOOD | {"exp": SOON}),
    "alg None": raw({"alg": "None", "kid": "ed"}, GOOD | {"exp": SOON}, b"x"),
    "no alg": raw({"kid": "ed"}, GOOD | {"exp": SOON}),
    "a public key as the secret": jwt.encode(
        GOOD | {"exp": SOON}, CONFUSED, "HS256", headers={"kid": "ed"}
    ),
    "another key's signature": signed(SHARED, {"kid": "ed"}),
    "an unknown kid": signed(header={"kid": "who"}),
    "a kid that is no text": raw({"alg": "EdDSA", "kid": {"$ne": 1}}, GOOD),
    "no kid": raw({"alg": "EdDSA"}, GOOD),
    "a key of its own": signed(new_pair("mine", "EdDSA", None)[0], {"kid": "ed", "jwk": PUBLIC}),
    "crit": signed(header={"crit": ["x"], "x": 1}),
    "expired": lambda: signed(exp=-11),
    "no exp": signed(exp=None),
    "an exp far away": lambda: signed(exp=3600 + 60),
    "an exp that is infinite": signed(exp=float("inf")),
    "an exp in words": signed(exp="tomorrow"),
    "not yet": lambda: signed(nbf=60),
    "from the future": lambda: signed(iat=60),
    "no sub": signed(sub=None),
    "an empty sub": signed(sub=""),
    "a sub that is a number": raw({"alg": "EdDSA", "kid": "ed"}, GOOD | {"sub": 1}),
    "no tenant": signed(tenant=None),
    "a tenant that is a path": signed(tenant="a/b"),
    "a tenant of ours": signed(tenant="~last"),
    "a tenant that is a list": signed(tenant=["acme"]),
    "models that are a number": signed(models=7),
    "too long": signed(note="x" * 8192),
    "two parts": "a.b",
    "four parts": "a.b.c.d",
    "not ASCII": "é.é.é",
    "a deep header": f"{base64.urlsafe_b64encode(b'[' * 5000).decode()}.e30.e30",
    "nothing": "",
    "a cut signature": signed()[:-4],
    "claims that were changed": ".".join(
        (signed().split(".")[0], raw({}, GOOD | {"exp": SOON}).split(".")[1], "x" * 86)
    ),
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
def test_every_invalid_token_is_refused_with_the_same_message(
    token: str | Callable[[], str],
) -> None:
    with pytest.raises(Problem) as refused:
        check(token() if callable(token) else token)
    assert (401, "invalid_token", None) == (
        refused.value.status,
        refused.value.code,
        refused.value.param,
    )


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: b.decode("latin-1")))
def test_arbitrary_bytes_are_refused_as_a_token(token: str) -> None:
    for text in (token, f"{token}.{token}.{token}", f"e30.{token}.x"):
        with pytest.raises(Problem, match=r"^(This key or token|$)"):
            check(text)


def test_issuer_and_audience_are_checked_if_configured() -> None:
    rules = Rules(issuer="https://idp", audience="holdline")
    assert check(signed(iss="https://idp", aud=["holdline", "x"]), rules)
    assert check(signed(iss="https://any", aud="any"))
    wrongs: list[dict[str, Any]] = [
        {"iss": "https://idp"},
        {"aud": "holdline"},
        {"iss": "x", "aud": "holdline"},
    ]
    for wrong in wrongs:
        with pytest.raises(Problem):
            check(signed(**wrong), rules)


def test_the_tenant_is_read_from_the_configured_claim() -> None:
    token = signed(tenant=None, org="acme")
    assert "acme" == check(token, Rules(tenant_claim="org")).tenant


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (PRIVATE, "private"),
        ({**SHARED, "k": "c2hvcnQ"}, "at least 32 bytes"),
        ({**PUBLIC, "alg": "HS256"}, "'alg'"),
        ({**PUBLIC, "kid": ""}, "'kid'"),
        ({**PUBLIC, "tenant": "a/b"}, "'tenant'"),
        ({**PUBLIC, "x": "!"}, "cannot be decoded"),
        ({**PUBLIC, "use": "enc"}, "must be 'sig'"),
        ({"kty": ["oct"], "kid": "a"}, "'kty'"),
        (7, "'kid'"),
    ],
)
def test_an_invalid_key_is_refused_with_its_place(entry: Any, why: str) -> None:
    text = json.dumps({"keys": [OURS, entry]})
    with pytest.raises(ValueError, match=rf"keys\[1\].*{why}"):
        parse_keys(text)
    assert ["ours"] == list(parse_keys(text, public_only=True))


def test_a_published_secret_is_refused_as_a_key() -> None:
    assert {} == parse_keys(json.dumps({"keys": [SHARED]}), public_only=True)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": 1}', "\ud800", "[" * 9999])
def test_an_invalid_key_set_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="JSON Web Key Set"):
        parse_keys(text)


def test_only_a_key_for_operators_can_sign_their_scopes() -> None:
    private, public = new_pair("ops", "EdDSA", None, operator=True)
    text = json.dumps({"keys": [PUBLIC, public]})
    scope = "create operator contents admin"
    keys = parse_keys(text)
    assert {"create"} == check(signed(scope=scope), keys=keys).scopes
    assert {"create", "operator", "contents"} == check(
        signed(private, scope=scope), keys=keys
    ).scopes
    assert {"create", "read", "cancel"} == check(signed(private), keys=keys).scopes
    published = parse_keys(text, public_only=True)
    assert {"create"} == check(signed(private, scope=scope), keys=published).scopes
    with pytest.raises(ValueError, match="'operator' of the key must be true or false"):
        parse_keys(json.dumps({"keys": [{**public, "operator": "yes"}]}))
