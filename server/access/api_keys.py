"""API keys: how one is written, what is kept of it, and when it counts.

    hl_2f9c01d4ab37_<43 letters and digits>
       id           secret, 256 bits of chance

Only the SHA-256 of the secret is kept. A slow hash is for words that people choose: it makes each
guess dear. Here nobody can guess, 2^256 is too many at any speed, and a slow one would be paid by
our own server on each request. The id finds the record, so that no secret is ever looked up.
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
_SECRET_LENGTH: Final = 43  # log2(62) * 43 = 256 bits
_WRITTEN = re.compile(r"hl_([0-9a-f]{12})_([A-Za-z0-9]{43})", re.ASCII)
# What an unknown id is compared with, so that it takes as long as a known one.
_NOBODY: Final = "0" * 64

Names = Annotated[list[Annotated[str, Meta(min_length=1, max_length=256)]], Meta(max_length=256)]


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is kept of a secret; `until` in Unix seconds, None for as long as the key counts."""

    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    until: float | None = None


class Record(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """What is kept of a key. `created_at` and `expires_at` in Unix seconds."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{12}\Z")]
    tenant: Annotated[str, Meta(pattern=TENANT_PATTERN)]
    scopes: list[Literal["create", "read", "cancel", "admin"]]
    secrets: Annotated[list[Secret], Meta(min_length=1, max_length=MAX_VALID)]
    models: Names | None = None
    prompts: Names | None = None
    created_at: float = 0
    expires_at: float | None = None
    note: Annotated[str, Meta(max_length=256)] = ""

    def principal(self) -> Principal:
        """Who shows this key."""
        return Principal(
            tenant=self.tenant,
            scopes=frozenset(self.scopes),
            models=None if self.models is None else frozenset(self.models),
            prompts=None if self.prompts is None else frozenset(self.prompts),
            expires_at=self.expires_at,
            key_id=self.id,
        )


def new_id() -> str:
    """An id for a new key."""
    return secrets.token_hex(6)


def new_key(id_: str) -> tuple[str, Secret]:
    """A key as it is shown, once, and what is kept of it."""
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_LENGTH))
    return f"{PREFIX}{id_}_{secret}", Secret(_digest(secret))


def id_of(written: str) -> str | None:
    """The id in a key, or None for what is not written like one."""
    match = _WRITTEN.fullmatch(written)
    return None if match is None else match[1]


def matches(record: Record | None, written: str, now: float) -> bool:
    """Whether this is the key of the record, and counts at `now`, in Unix seconds.

    Every secret is compared in constant time, also where there is no record.
    """
    digest = _digest(written.rpartition("_")[2])
    found = False
    for secret in record.secrets if record else [Secret(_NOBODY)]:
        same = hmac.compare_digest(secret.sha256, digest)
        found |= same and (secret.until is None or now < secret.until)
    ended = record is None or (record.expires_at is not None and now >= record.expires_at)
    return found and not ended


def rotated(record: Record, fresh: Secret, now: float, keep_seconds: float) -> Record:
    """The record with a fresh secret; the latest one before it counts for so many seconds more."""
    latest = record.secrets[-1]
    end = now + keep_seconds
    until = end if latest.until is None else min(latest.until, end)
    old = Secret(latest.sha256, until)
    return msgspec.structs.replace(record, secrets=[old, fresh] if keep_seconds > 0 else [fresh])


def encode(record: Record) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(record)


def decode(data: bytes) -> Record:
    """A record of JSON. Raises: msgspec.ValidationError, msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Record)


class File(msgspec.Struct, forbid_unknown_fields=True):
    """What a file of keys holds."""

    keys: list[Record]


def parse_file(text: str) -> dict[str, Record]:
    """The records of a file of keys, by id.

    Raises: ValueError, which names the place; msgspec's errors are some.
    """
    found: dict[str, Record] = {}
    for record in msgspec.json.decode(text, type=File).keys:
        if record.id in found:
            raise ValueError(f"two keys have the id {record.id}")
        found[record.id] = record
    return found


def format_file(records: dict[str, Record]) -> bytes:
    """The file of some records, to be read by people too."""
    return msgspec.json.format(msgspec.json.encode(File([*records.values()])), indent=2) + b"\n"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
