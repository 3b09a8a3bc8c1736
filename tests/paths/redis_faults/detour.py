"""The proxy of `tests.jobs.proxy` that can lead elsewhere, or swallow what one side says."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from tests.jobs.proxy import CHUNK, Link, Proxy


class Detour(Proxy):
    """A fixed address in front of a Redis that may change."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(redis_url)
        self._swallowed: list[Link] = []

    def lead_to(self, redis_url: str) -> None:
        """From now on every connection ends there; those that are open are gone."""
        self._to = urlsplit(redis_url)
        self.reset()

    def swallow_bells(self) -> None:
        """Connections that are subscribed now never hear Redis again, and stay open."""
        self._swallowed += [link for link in self.links if b"SUBSCRIBE" in b"".join(link.requests)]

    async def _forward_replies(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if link not in self._swallowed:
                    await self._pass(data, link.near)
        link.cut()
