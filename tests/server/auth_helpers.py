"""Keys and tokens for the tests of authentication."""

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
    """The key files of a server that requires authentication, and credentials for it."""

    def __init__(self, folder: Path) -> None:
        self._keys = folder / "keys.json"
        self._signers = folder / "signers.json"
        self._records: dict[str, api_keys.Record] = {}
        self.private, self.public = new_pair("one", "EdDSA", None)
        self.list_signers(self.public)
        self._write()

    @property
    def settings(self) -> dict[str, str]:
        """The settings with which `serve` requires authentication."""
        return {"api_keys": str(self._keys), "jwt_keys": str(self._signers)}

    def list_signers(self, *public: dict[str, Any]) -> None:
        """Writes the keys that tokens are checked with."""
        self._signers.write_text(json.dumps({"keys": public}))

    def key(self, tenant: str = "acme", *scopes: str, **fields: Any) -> str:
        """Creates a valid API key; it must be created before the server starts."""
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
        """Removes a key from the file."""
        del self._records[str(api_keys.id_of(key))]
        self._write()

    def token(self, subject: str = "anna", tenant: str = "acme", **claims: Any) -> str:
        """A valid token."""
        return mint_token(self.private, subject=subject, tenant=tenant, **claims)

    def expired(self, subject: str = "anna", tenant: str = "acme") -> str:
        """A token that expired longer ago than the leeway."""
        claims = {"sub": subject, "tenant": tenant, "exp": time.time() - LEEWAY_SECONDS - 2}
        key = jwt.PyJWK(self.private).key
        return jwt.encode(claims, key, "EdDSA", headers={"kid": self.private["kid"]})

    def _write(self) -> None:
        self._keys.write_bytes(api_keys.format_file(self._records))


def bearer(credential: str) -> dict[str, str]:
    """The authorization header that carries the credential."""
    return {"Authorization": f"Bearer {credential}"}


def unix() -> float:
    """The current time in the unit of token claims."""
    return time.time()
