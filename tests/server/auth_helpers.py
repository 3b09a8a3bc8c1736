"""API keys and tokens for the authentication tests."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import msgspec

from admin.signers import new_pair
from holdline_client import mint_token
from server.access import api_keys
from server.access.jwt import LEEWAY_SECONDS


class Credentials:
    """Writes the key files of a server that requires authentication; creates credentials."""

    def __init__(self, folder: Path) -> None:
        self._keys = folder / "keys.json"
        self._signers = folder / "signers.json"
        self._records: dict[str, api_keys.Record] = {}
        self.private, self.public = new_pair("one", "EdDSA", None)
        self.list_signers(self.public)
        self._write()

    @property
    def settings(self) -> dict[str, str]:
        """The settings that make a server started by `serve` require authentication."""
        return {"api_keys": str(self._keys), "jwt_keys": str(self._signers)}

    def list_signers(self, *public: dict[str, Any]) -> None:
        """Writes the public keys that verify tokens."""
        self._signers.write_text(json.dumps({"keys": public}))

    def key(self, tenant: str = "acme", *scopes: str, **fields: Any) -> str:
        """Creates a valid API key. Call it before the server starts."""
        id_ = api_keys.new_id()
        written, secret = api_keys.new_key(id_)
        kept = {"id": id_, "tenant": tenant, "secrets": [msgspec.to_builtins(secret)]}
        record = msgspec.convert(
            {**kept, "scopes": [*(scopes or ("create", "read", "cancel"))], **fields},
            api_keys.Record,
        )
        self._records[id_] = record
        self._write()
        return written

    def revoke(self, key: str) -> None:
        """Removes an API key from the key file."""
        del self._records[str(api_keys.id_of(key))]
        self._write()

    def token(self, subject: str = "anna", tenant: str = "acme", **claims: Any) -> str:
        """Returns a valid token."""
        return mint_token(self.private, subject=subject, tenant=tenant, **claims)

    def expired(self, subject: str = "anna", tenant: str = "acme") -> str:
        """Returns a token that expired longer ago than the leeway allows."""
        claims = {"sub": subject, "tenant": tenant, "exp": time.time() - LEEWAY_SECONDS - 2}
        key = jwt.PyJWK(self.private).key
        return jwt.encode(claims, key, "EdDSA", headers={"kid": self.private["kid"]})

    def _write(self) -> None:
        self._keys.write_bytes(api_keys.format_file(self._records))


def bearer(credential: str) -> dict[str, str]:
    """Returns the authorization header that carries the credential."""
    return {"Authorization": f"Bearer {credential}"}


def unix() -> float:
    """Returns the current time as token claims state it, in seconds."""
    return time.time()
