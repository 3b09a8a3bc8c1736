"""Tokens of end users: JSON Web Tokens, and the keys that they are checked with. Pure.

A key says by its type which algorithm it is for, and a token is checked with the one key that its
`kid` names: what the token itself says about algorithms or keys chooses nothing. So `none`, a
public key taken for a shared secret, and a key that travels with its token all fail.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec

from .owners import is_subject, is_tenant
from .principal import ADMIN, MAX_CREDENTIAL, OF_A_TOKEN, Principal, names, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

LEEWAY_SECONDS: Final = 10.0  # by which the clocks of two machines may differ
MIN_SECRET: Final = 32  # bytes of a shared secret
MIN_RSA_BITS: Final = 2048
MAX_KEYS: Final = 64
_ALGORITHMS: Final[dict[tuple[str, str | None], str]] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("oct", None): "HS256",
    ("EC", "P-256"): "ES256",
    ("RSA", None): "RS256",
}
# What PyJWT lets out for bytes that are no token, besides its own errors.
_NOT_A_TOKEN: Final = (
    jwt.PyJWTError,
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    RecursionError,
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must say. Seconds; "" for an issuer or audience that is not looked at."""

    issuer: str = ""
    audience: str = ""
    tenant_claim: str = "tenant"
    max_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Key:
    """One key. Its tokens are of `tenant` alone, where it has one."""

    kid: str
    jwk: jwt.PyJWK
    tenant: str | None = None

    @property
    def algorithm(self) -> str:
        """The only algorithm that it is for."""
        return self.jwk.algorithm_name


Keys = dict[str, Key]


def parse_keys(text: str | bytes, *, public_only: bool = False) -> Keys:
    """The keys of a JSON Web Key Set by `kid`; `tenant` in one is ours.

    Of a set that comes from an address, `public_only`, what we have no use for is left out, as RFC
    7517 wants it. A file of our own is refused instead, so that a slip is noticed.

    Raises: ValueError, which names the place and repeats no key.
    """
    keys: Keys = {}
    for index, entry in enumerate(_entries(text)):
        try:
            key = _key(entry, public_only=public_only)
        except ValueError as error:
            if public_only:
                continue
            raise ValueError(f"keys[{index}] {error}") from None
        if key.kid in keys and not public_only:
            raise ValueError(f"keys[{index}] is another one with the kid '{key.kid}'")
        keys.setdefault(key.kid, key)
    return keys


def _entries(text: str | bytes) -> list[Any]:
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        document = {}
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(f"is no JSON Web Key Set: 'keys' is a list of at most {MAX_KEYS}")
    return entries


def _key(entry: Any, *, public_only: bool) -> Key:
    entry = entry if isinstance(entry, dict) else {}
    kid, tenant = entry.get("kid"), entry.get("tenant")
    if not isinstance(kid, str) or not 0 < len(kid) <= 128:
        raise ValueError("needs a 'kid' of 1 to 128 characters")
    if tenant is not None and not is_tenant(tenant):
        raise ValueError("has a 'tenant' that is not the name of one")
    if entry.get("use", "sig") != "sig":
        raise ValueError("is not for signatures")
    algorithm = next((a for k, a in _ALGORITHMS.items() if k == _kind(entry)), None)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        known = ", ".join(_ALGORITHMS.values())
        raise ValueError(f"has a 'kty', 'crv' or 'alg' that is not for one of {known}")
    if public_only and algorithm == "HS256":
        raise ValueError("is a secret, and was published")
    if "d" in entry:
        raise ValueError(
            "is a private key: keep that where tokens are made, and list its public one"
        )
    try:
        jwk = jwt.PyJWK(entry, algorithm)
    except _NOT_A_TOKEN:
        raise ValueError("cannot be read as a key") from None
    if algorithm == "HS256" and len(jwk.key) < MIN_SECRET:
        raise ValueError(f"is a secret of less than {MIN_SECRET} bytes")
    if algorithm == "RS256" and jwk.key.key_size < MIN_RSA_BITS:
        raise ValueError(f"is an RSA key of less than {MIN_RSA_BITS} bits")
    return Key(kid, jwk, tenant)


def _kind(entry: dict[str, Any]) -> tuple[Any, Any]:
    return entry.get("kty"), entry.get("crv")


def kid_of(token: str) -> str:
    """The `kid` that a token names.

    Raises: Problem.
    """
    if len(token) > MAX_CREDENTIAL or not token.isascii() or token.count(".") != 2:
        raise refused()
    try:
        header = jwt.get_unverified_header(token)
    except _NOT_A_TOKEN:
        raise refused() from None
    kid = header.get("kid")
    if not isinstance(kid, str) or "crit" in header:
        raise refused()
    return kid


def verified(token: str, key: Key, rules: Rules, now: float) -> Principal:
    """Who shows this token; `now` in Unix seconds.

    Raises: Problem, the same one whatever is wrong.
    """
    try:
        claims = jwt.decode(
            token,
            key.jwk,
            algorithms=[key.algorithm],
            audience=rules.audience or None,
            issuer=rules.issuer or None,
            leeway=LEEWAY_SECONDS,
            options={
                "require": ["exp", "sub"],
                "verify_aud": bool(rules.audience),
                "verify_iss": bool(rules.issuer),
            },
        )
        return _principal(claims, key, rules, now)
    except _NOT_A_TOKEN:
        raise refused() from None


def _principal(claims: Mapping[str, Any], key: Key, rules: Rules, now: float) -> Principal:
    expires_at = float(claims["exp"])
    if not math.isfinite(expires_at) or expires_at - now > rules.max_seconds + LEEWAY_SECONDS:
        raise ValueError("good for too long")
    tenant, subject = claims.get(rules.tenant_claim, key.tenant), claims["sub"]
    if not is_tenant(tenant) or not is_subject(subject):
        raise ValueError("not a tenant and a subject")
    if key.tenant is not None and tenant != key.tenant:
        raise ValueError("the key is another tenant's")
    scopes = names(claims.get("scope"))
    return Principal(
        tenant=tenant,
        subject=subject,
        scopes=OF_A_TOKEN if scopes is None else scopes & (OF_A_TOKEN - {ADMIN}),
        models=names(claims.get("models")),
        prompts=names(claims.get("prompts")),
        expires_at=expires_at,
    )
