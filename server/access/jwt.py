"""Verifies the tokens of end users, which are JSON Web Tokens. Pure: no I/O.

The type of a key determines its algorithm, and a token is verified only with the key that its `kid`
names. The token's own statements about algorithms or keys are ignored. This defeats the algorithm
`none`, the use of a public key as a shared secret, and a key that is embedded in its token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
import msgspec

from .owners import is_subject, is_tenant
from .principal import MAX_CREDENTIAL, OF_A_TOKEN, OF_AN_OPERATOR, Principal, names, refused

if TYPE_CHECKING:
    from collections.abc import Mapping

LEEWAY_SECONDS: Final = 10.0  # the permitted difference between the clocks of two machines
MIN_SECRET: Final = 32  # the minimum length of a shared secret in bytes
MIN_RSA_BITS: Final = 2048
MAX_KEYS: Final = 64
_ALGORITHMS: Final[dict[tuple[str, str | None], str]] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("oct", None): "HS256",
    ("EC", "P-256"): "ES256",
    ("RSA", None): "RS256",
}
# PyJWT's own errors, and the other exceptions that PyJWT raises for bytes that are not a token.
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
    """The requirements that a token's claims must meet.

    If `issuer` or `audience` is empty, that claim is not checked. `max_seconds` limits the
    remaining lifetime.
    """

    issuer: str = ""
    audience: str = ""
    tenant_claim: str = "tenant"
    max_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key. If `tenant` is set, the key verifies only that tenant's tokens.

    Only the tokens of a key with `operator` may have the scopes `operator` and `contents`.
    """

    kid: str
    jwk: jwt.PyJWK
    tenant: str | None = None
    operator: bool = False

    @property
    def algorithm(self) -> str:
        """The only signature algorithm for which the key may be used."""
        return self.jwk.algorithm_name


Keys = dict[str, Key]


def parse_keys(text: str | bytes, *, public_only: bool = False) -> Keys:
    """Returns the keys of a JSON Web Key Set by `kid`.

    The members `tenant` and `operator` are Holdline's own. In a set that was fetched from a URL
    (`public_only`), `operator` has no effect, and unusable keys are skipped, as RFC 7517
    recommends. In the operator's own file they are errors, so that mistakes are noticed.

    Raises: ValueError, which says where the set is invalid and repeats no key.
    """
    keys: Keys = {}
    for index, entry in enumerate(_entries(text)):
        try:
            key = _key(entry, public_only=public_only)
        except ValueError as error:
            if public_only:
                continue
            raise ValueError(f"keys[{index}]: {error}") from None
        if key.kid in keys and not public_only:
            raise ValueError(f"keys[{index}]: the kid '{key.kid}' is used by two keys")
        keys.setdefault(key.kid, key)
    return keys


def _entries(text: str | bytes) -> list[Any]:
    try:
        document = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        document = {}
    entries = document.get("keys")
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise ValueError(
            f"expected a JSON Web Key Set with a list 'keys' of at most {MAX_KEYS} keys"
        )
    return entries


def _key(entry: Any, *, public_only: bool) -> Key:
    entry = entry if isinstance(entry, dict) else {}
    kid, tenant = entry.get("kid"), entry.get("tenant")
    if not isinstance(kid, str) or not 0 < len(kid) <= 128:
        raise ValueError("the key must have a 'kid' of 1 to 128 characters")
    if tenant is not None and not is_tenant(tenant):
        raise ValueError("the 'tenant' of the key must be 1 to 64 letters, digits and _ . -")
    operator = entry.get("operator", False)
    if type(operator) is not bool:
        raise ValueError("the member 'operator' of the key must be true or false")
    if entry.get("use", "sig") != "sig":
        raise ValueError("the 'use' of the key must be 'sig'")
    algorithm = next((a for k, a in _ALGORITHMS.items() if k == _kind(entry)), None)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        known = ", ".join(_ALGORITHMS.values())
        raise ValueError(
            f"this combination of 'kty', 'crv' and 'alg' is not supported; use one of {known}"
        )
    if public_only and algorithm == "HS256":
        raise ValueError("the key is a shared secret, but only public keys may be published")
    if "d" in entry:
        raise ValueError(
            "the key is private: keep it where tokens are signed, and list its public key here"
        )
    try:
        jwk = jwt.PyJWK(entry, algorithm)
    except _NOT_A_TOKEN:
        raise ValueError("the parameters of the key cannot be decoded") from None
    if algorithm == "HS256" and len(jwk.key) < MIN_SECRET:
        raise ValueError(f"the secret must have at least {MIN_SECRET} bytes")
    if algorithm == "RS256" and jwk.key.key_size < MIN_RSA_BITS:
        raise ValueError(f"the RSA key must have at least {MIN_RSA_BITS} bits")
    return Key(kid, jwk, tenant, operator and not public_only)


def _kind(entry: dict[str, Any]) -> tuple[Any, Any]:
    return entry.get("kty"), entry.get("crv")


def kid_of(token: str) -> str:
    """Returns the `kid` that a token names.

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
    """Verifies a token and returns its principal; `now` is in Unix seconds.

    Raises: Problem, which is the same for every kind of invalid token.
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
        raise ValueError("the token expires too far in the future")
    tenant, subject = claims.get(rules.tenant_claim, key.tenant), claims["sub"]
    if not is_tenant(tenant) or not is_subject(subject):
        raise ValueError("the tenant or the subject has an invalid form")
    if key.tenant is not None and tenant != key.tenant:
        raise ValueError("the tenant of the token differs from that of its key")
    scopes = names(claims.get("scope"))
    allowed = OF_A_TOKEN | OF_AN_OPERATOR if key.operator else OF_A_TOKEN
    return Principal(
        tenant=tenant,
        subject=subject,
        scopes=OF_A_TOKEN if scopes is None else scopes & allowed,
        models=names(claims.get("models")),
        prompts=names(claims.get("prompts")),
        expires_at=expires_at,
    )
