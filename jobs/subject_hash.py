"""Hashes owners, so that logs and traces can name end users without their names.

The hash is keyed with a random salt, which Redis stores. Without the salt, nobody can test a
guessed name against a hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from .errors import RedisRefused
from .names import Partition

if TYPE_CHECKING:
    from .redis.pipe import Pipe

SALT_TTL_MS: Final = 400 * 24 * 3600 * 1000
SALT_BYTES: Final = 32
HASH_DIGITS: Final = 16


async def read_salt(pipe: Pipe) -> bytes:
    """Returns the salt of the deployment, which is created if it does not exist.

    Raises: RedisFull if it does not exist and Redis is full; RedisTrouble.
    """
    key, fresh = Partition(0).salt, secrets.token_bytes(SALT_BYTES)
    # A full Redis refuses SET, even if it would change nothing.
    found = await pipe.call("GET", key)
    if found is None:
        found = await pipe.call("SET", key, fresh, "PX", SALT_TTL_MS, "NX", "GET")
    if found is None:
        return fresh
    if not isinstance(found, bytes):
        raise RedisRefused("unexpected data in Redis: cannot decode the salt of hashes")
    await pipe.call("PEXPIRE", key, SALT_TTL_MS)
    return found


def subject_hash(salt: bytes, owner: str) -> str:
    """Returns the hash of an owner: 16 hex digits."""
    return hmac.new(salt, owner.encode(), hashlib.sha256).hexdigest()[:HASH_DIGITS]
