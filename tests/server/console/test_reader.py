"""Tests how the console's reads share a server with its other clients."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from jobs.errors import RedisAway
from jobs.worker_registry import WorkerPage, WorkerRegistry
from server.app import Server
from server.console import reader as reader_module
from server.console.reader import StateReader


async def test_one_page_of_workers_is_read_at_a_time(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = most = 0

    async def page(*_: Any) -> WorkerPage:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)  # lets the other calls begin, if they may
        now -= 1
        return WorkerPage(0, 0, (), "")

    monkeypatch.setattr(WorkerRegistry, "page", page)
    await asyncio.gather(*(server.state_reader.page("", 1000) for _ in range(20)))
    assert 1 == most


async def test_the_deadline_of_a_read_includes_the_wait_for_earlier_reads(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.sleep(60)  # stands for a Redis that does not reply

    monkeypatch.setattr(reader_module, "DEADLINE_SECONDS", 0.2)
    monkeypatch.setattr(StateReader, "_read", hang)
    monkeypatch.setattr(WorkerRegistry, "page", hang)
    reader = server.state_reader
    begun = time.monotonic()
    reads = [*(reader.read() for _ in range(20)), *(reader.page("", 1) for _ in range(20))]
    found = await asyncio.gather(*reads, return_exceptions=True)
    assert {RedisAway} == {type(error) for error in found}
    assert time.monotonic() - begun < 2, "20 deadlines in a row take 4 s"
