"""Creates the tokens with which the end users of a backend authenticate to a Holdline server.

A token is a JSON Web Token (RFC 7519), so any JWT library can create tokens too. Signing with a
shared secret needs only Python. Signing with a private key needs the package `cryptography`, which
`pip install holdline-client[jwt]` installs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MIN_SECRET: Final = 32  # the minimum length of a shared secret, in bytes
PRIVATE_BYTES: Final = 32
SECONDS: Final = 600.0


def mint_token(
    key: Mapping[str, Any] | str,
    *,
    subject: str,
    tenant: str | None = None,
    seconds: float = SECONDS,
    scopes: Iterable[str] | None = None,
    models: Iterable[str] | None = None,
    prompts: Iterable[str] | None = None,
    audience: str | None = None,
    issuer: str | None = None,
) -> str:
    """Returns a token with which the end user `subject` may use the server for `seconds`.

    `key` is the JSON Web Key that `holdline signers add` prints, including its `kid`, as an
    object or as text. `tenant` may be left out if the key belongs to a tenant. Without `scopes`,
    the token allows `create`, `read` and `cancel`. Without `models` it allows all models, and
    without `prompts` all prompts.

    Raises: ValueError for an invalid key or claim.
    """
    jwk = _key(key)
    now = int(time.time())
    if not subject or not math.isfinite(seconds) or seconds <= 0:
        raise ValueError("subject must not be empty, and seconds must be a finite number above 0")
    claims: dict[str, Any] = {
        "sub": subject,
        "tenant": tenant if tenant is not None else jwk.get("tenant"),
        "iat": now,
        "exp": now + math.ceil(seconds),
        "scope": None if scopes is None else " ".join(_list(scopes)),
        "models": None if models is None else _list(models),
        "prompts": None if prompts is None else _list(prompts),
        "aud": audience,
        "iss": issuer,
    }
    if claims["tenant"] is None:
        raise ValueError("tenant is required, because this key belongs to no tenant")
    header = {"alg": _algorithm(jwk), "typ": "JWT", "kid": jwk["kid"]}
    stated = {name: value for name, value in claims.items() if value is not None}
    signed = f"{_written(header)}.{_written(stated)}"
    return f"{signed}.{_encode(_signature(jwk, signed.encode()))}"


def _key(key: Mapping[str, Any] | str) -> Mapping[str, Any]:
    try:
        found = json.loads(key) if isinstance(key, str) else key
    except ValueError:
        raise ValueError("the key is not valid JSON") from None
    kid = found.get("kid") if isinstance(found, Mapping) else None
    if kid is None or not str(kid):
        raise ValueError("the key is not a JSON Web Key with a 'kid'")
    return found


def _algorithm(jwk: Mapping[str, Any]) -> str:
    match jwk.get("kty"), jwk.get("crv"):
        case "oct", _:
            return "HS256"
        case "OKP", "Ed25519":
            return "EdDSA"
        case _:
            raise ValueError("the key must be for HS256 or EdDSA")


def _signature(jwk: Mapping[str, Any], signed: bytes) -> bytes:
    if jwk["kty"] == "oct":
        secret = _decode(jwk.get("k", ""))
        if len(secret) < MIN_SECRET:
            raise ValueError(f"the shared secret must have at least {MIN_SECRET} bytes")
        return hmac.digest(secret, signed, hashlib.sha256)
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise ValueError("an Ed25519 key requires the package cryptography") from None
    private = _decode(jwk.get("d", ""))
    if len(private) != PRIVATE_BYTES:
        raise ValueError(
            "the key has no private part: use the private key, not the public key of the server"
        )
    return Ed25519PrivateKey.from_private_bytes(private).sign(signed)


def _list(names: Iterable[str]) -> list[str]:
    # Iterating over a string would yield its letters, so a string is split at spaces into names.
    return names.split() if isinstance(names, str) else list(names)


def _written(value: Mapping[str, Any]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, TypeError):
        raise ValueError("the key is not encoded in base64url") from None
