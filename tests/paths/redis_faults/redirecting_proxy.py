"""A proxy that can redirect connections to another Redis or discard replies."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

from tests.jobs.proxy import CHUNK, Link, Proxy


class RedirectingProxy(Proxy):
    """A fixed address for a Redis that may be replaced."""

    def __init__(self, redis_url: str) -> None:
        super().__init__(redis_url)
        self._muted: list[Link] = []

    def redirect(self, redis_url: str) -> None:
        """Directs new connections to another Redis and resets all open connections."""
        self._to = urlsplit(redis_url)
        self.reset()

    def mute_subscribers(self) -> None:
        """Discards all further replies on subscribed connections without closing them."""
        self._muted += [link for link in self.links if b"SUBSCRIBE" in b"".join(link.requests)]

    async def _forward_replies(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if link not in self._muted:
                    await self._pass(data, link.near)
        link.cut()
