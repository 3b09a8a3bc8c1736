"""The format of API keys, the stored record of a key, and the validity of a key.

    hl_2f9c01d4ab37_<43 letters and digits>
       id           secret, 256 random bits

Only the SHA-256 of the secret is stored. A slow hash would protect passwords that people choose,
because it makes each guess expensive. A random 256-bit secret cannot be guessed at any speed, and a
slow hash would cost the server time on each request. A record is looked up by its key id, never by
its secret.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from .owners import TENANT_PATTERN
from .principal import Principal

PREFIX: Final = "hl_"
MAX_VALID: Final = 2
_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET_LENGTH: Final = 43  # 43 random letters and digits contain 256 bits
_WRITTEN = re.compile(r"hl_([0-9a-f]{12})_([A-Za-z0-9]{43})", re.ASCII)
# The digest for comparison with a key whose id is unknown, so that the check takes as long as for a
# known id.
_NOBODY: Final = "0" * 64

Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=256)]


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The stored form of an API key's secret.

    `until` is the secret's expiry in Unix seconds. If it is None, the secret is valid as long as
    the key.
    """

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    until: float | None = None


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The stored form of an API key. `created_at` and `expires_at` are in Unix seconds."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
    tenant: Annotated[str, Meta(pattern=TENANT_PATTERN)]
    scopes: list[Literal["create", "read", "cancel", "admin", "operator", "contents"]]
    secrets: Annotated[list[Secret], Meta(min_length=1, max_length=MAX_VALID)]
    models: Names | None = None
    prompts: Names | None = None
    created_at: float = 0
    expires_at: float | None = None
    note: Annotated[str, Meta(max_length=256)] = ""

    def principal(self) -> Principal:
        """Returns the principal that this key authenticates."""
        return Principal(
            tenant=self.tenant,
            scopes=frozenset(self.scopes),
            models=None if self.models is None else frozenset(self.models),
            prompts=None if self.prompts is None else frozenset(self.prompts),
            expires_at=self.expires_at,
            key_id=self.id,
        )


def new_id() -> str:
    """Returns a random id for a new API key."""
    return secrets.token_hex(6)


def new_key(id_: str) -> tuple[str, Secret]:
    """Returns the text of a new key, which is shown only once, and the record to store."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    return f"{PREFIX}{id_}_{secret}", Secret(_digest(secret))


def id_of(written: str) -> str | None:
    """Returns the id in an API key, or None if the text is not formatted as an API key."""
    match = _WRITTEN.fullmatch(written)
    return None if match is None else match[1]


def matches(record: Record | None, written: str, now: float) -> bool:
    """Returns True if `written` is the key of the record and valid at `now`, in Unix seconds.

    Every secret is compared in constant time, even if no record exists.
    """
    digest = _digest(written.rpartition("_")[2])
    found = False
    for secret in record.secrets if record else [Secret(_NOBODY)]:
        same = hmac.compare_digest(secret.sha256, digest)
        found |= same and (secret.until is None or now < secret.until)
    ended = record is None or (record.expires_at is not None and now >= record.expires_at)
    return found and not ended


def rotated(record: Record, fresh: Secret, now: float, keep_seconds: float) -> Record:
    """Returns the record with a new secret; the old secret expires within `keep_seconds`."""
    latest = record.secrets[-1]
    end = now + keep_seconds
    until = end if latest.until is None else min(latest.until, end)
    old = Secret(latest.sha256, until)
    return msgspec.structs.replace(record, secrets=[old, fresh] if keep_seconds > 0 else [fresh])


def encode(record: Record) -> bytes:
    """Encodes an API key's record as JSON."""
    return msgspec.json.encode(record)


def decode(data: bytes) -> Record:
    """Decodes an API key's record. Raises: msgspec.ValidationError, msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Record)


class File(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a key file."""

    keys: list[Record]


def parse_file(text: str) -> dict[str, Record]:
    """Returns the records in a key file, by key id.

    Raises: ValueError, which says where the file is invalid; msgspec's errors are subclasses of it.
    """
    found: dict[str, Record] = {}
    for record in msgspec.json.decode(text, type=File).keys:
        if record.id in found:
            raise ValueError(f"two keys have the id {record.id}")
        found[record.id] = record
    return found


def format_file(records: dict[str, Record]) -> bytes:
    """Returns the content of a key file with these records, indented for readability."""
    return msgspec.json.format(msgspec.json.encode(File([*records.values()])), indent=2) + b"\n"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
