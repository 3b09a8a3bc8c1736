"""The public keys of an identity provider, fetched on demand and cached."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp
import structlog

from server.api.problem import Problem

from .jwt import Key, Keys, parse_keys

FRESH_SECONDS: Final = 300.0
# How long the last fetched keys are used while the identity provider does not answer.
STALE_SECONDS: Final = 6 * 3600.0
# The minimum time between two fetches. Without this limit, each token with a made-up `kid` would
# cause a fetch.
PAUSE_SECONDS: Final = 10.0
FETCH_SECONDS: Final = 5.0
MAX_BYTES: Final = 65_536
PLAIN: Final = {"Accept-Encoding": "identity"}
AWAY_RETRY_SECONDS: Final = 5

log = structlog.get_logger()


class Jwks:
    """The JSON Web Key Set at a URL. `config` has checked that the URL is https or loopback."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: Keys | None = None
        self._fetched_at = 0.0
        self._tried_at = -PAUSE_SECONDS
        self._fetching: asyncio.Task[None] | None = None

    @property
    def age(self) -> float | None:
        """The seconds since the keys were fetched, or None before the first fetch."""
        return None if self._keys is None else time.monotonic() - self._fetched_at

    async def get(self, kid: str) -> Key | None:
        """Returns the key with this `kid`, or None if the set does not contain it.

        Raises: Problem if no keys are cached and they cannot be fetched.
        """
        age = time.monotonic() - self._fetched_at
        known = self._keys is not None and age < STALE_SECONDS
        if not known or age > FRESH_SECONDS or kid not in (self._keys or {}):
            if self._fetching is None and time.monotonic() - self._tried_at >= PAUSE_SECONDS:
                self._tried_at = time.monotonic()
                self._fetching = asyncio.create_task(self._fetch(), name="jwks")
            # A token whose key is cached does not wait for a newer key set.
            if self._fetching is not None and not (known and kid in (self._keys or {})):
                await asyncio.wait([self._fetching])
        if self._keys is None or time.monotonic() - self._fetched_at > STALE_SECONDS:
            raise Problem(
                503,
                "token_keys_unavailable",
                "The keys that verify tokens cannot be fetched. Try again in a moment.",
                retry_after=AWAY_RETRY_SECONDS,
            )
        return self._keys.get(kid)

    async def close(self) -> None:
        """Cancels a fetch in progress."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    async def _fetch(self) -> None:
        try:
            async with (
                asyncio.timeout(FETCH_SECONDS),
                # Decompression is off, because a small body could decompress to any size.
                aiohttp.ClientSession(auto_decompress=False, headers=PLAIN) as http,
            ):
                self._keys = parse_keys(await _body(http, self._url), public_only=True)
            self._fetched_at = time.monotonic()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            # An aiohttp error is not logged: it can quote the URL, which can contain a password.
            reason = str(error) if type(error) is ValueError else None
            log.warning(
                "failed to fetch the JWT keys: trying again later",
                error=type(error).__name__,
                reason=reason,
            )
        finally:
            self._fetching = None


async def _body(http: aiohttp.ClientSession, url: str) -> bytes:
    """Downloads the body at a URL.

    Raises: ValueError if the status is not 200, or if the body exceeds `MAX_BYTES`.
    """
    # Redirects are not followed, because they could lead from https to an insecure URL.
    async with http.get(url, allow_redirects=False) as answer:
        if answer.status != 200:
            raise ValueError(f"the server replied with status {answer.status}")
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > MAX_BYTES:
                raise ValueError(f"the key set has more than {MAX_BYTES} bytes")
        return bytes(body)
