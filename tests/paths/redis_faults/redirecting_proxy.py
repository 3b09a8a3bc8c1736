"""The proxy of `tests.jobs.proxy` that can lead elsewhere, or swallow what one side says."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from tests.jobs.proxy import CHUNK, Link, Proxy


class RedirectingProxy(Proxy):
    """A fixed address in front of a Redis that may change."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(redis_url)
        self._muted: list[Link] = []

    def redirect(self, redis_url: str) -> None:
        """From now on every connection ends there; those that are open are gone."""
        self._to = urlsplit(redis_url)
        self.reset()

    def mute_subscribers(self) -> None:
        """Connections that are subscribed now never hear Redis again, and stay open."""
        self._muted += [link for link in self.links if b"SUBSCRIBE" in b"".join(link.requests)]

    async def _forward_replies(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if link not in self._muted:
                    await self._pass(data, link.near)
        link.cut()
