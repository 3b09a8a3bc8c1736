"""Proxies that stop forwarding just before given words."""

from __future__ import annotations

import asyncio
import contextlib

from tests.jobs.proxy import CHUNK, Link, Proxy


class HoldingProxy(Proxy):
    """Stops forwarding requests as soon as one of them contains `words`.

    `reached` is set at that moment. That request and all later ones never arrive at Redis.
    """

    def __init__(self, redis_url: str, words: bytes) -> None:
        super().__init__(redis_url)
        self._words = words
        self.reached = asyncio.Event()

    async def _forward_requests(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self._words in data:
                    self.reached.set()
                if self.reached.is_set():
                    await asyncio.Event().wait()
                await self._pass(data, link.far)
        link.cut()


class LaggingReplication(Proxy):
    """Forwards a replication stream up to the transaction with the nth occurrence of `words`.

    `reached` is set at that moment. The replica keeps the state before this transaction.
    """

    def __init__(self, redis_url: str, words: bytes, count: int) -> None:
        super().__init__(redis_url)
        self._words, self._left = words, count
        self.reached = asyncio.Event()

    async def _forward_replies(self, link: Link, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                at = -1
                while self._left and (at := data.find(self._words, at + 1)) >= 0:
                    self._left -= 1
                if not self._left:
                    start = data.rfind(b"*1\r\n$5\r\nMULTI", 0, at) if at >= 0 else 0
                    await self._pass(data[: max(start, 0)], link.near)
                    self.reached.set()
                    await asyncio.Event().wait()
                await self._pass(data, link.near)
        link.cut()
