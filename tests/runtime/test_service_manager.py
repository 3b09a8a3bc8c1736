"""Tests the notifications of systemd, which a unit with `Type=notify` waits for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import service_manager
from tests.service_manager import Manager
from tests.system import wait_until


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    for name in ("WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    manager = Manager(path)
    yield manager
    manager.close()


def test_a_ready_process_is_reported_once(manager: Manager) -> None:
    assert [] == manager.read()
    service_manager.report_ready()
    assert ["READY=1\nSTATUS=ready"] == manager.read()


def test_a_process_that_waits_has_started(manager: Manager) -> None:
    """Without the report, systemd would stop the process after `TimeoutStartSec=`."""
    service_manager.report_waiting("Redis")
    assert ["READY=1\nSTATUS=waiting for Redis"] == manager.read()


async def test_a_watched_process_reports_until_it_stops(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    async with service_manager.watched():
        await wait_until(lambda: manager.read().count("WATCHDOG=1") >= 3, 5)
    number = len(manager.read())
    await asyncio.sleep(0.05)  # longer than the time limit of the watchdog
    assert number == len(manager.read())


async def test_a_process_that_is_not_watched_sends_no_reports(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    async with service_manager.watched():
        await asyncio.sleep(0.02)  # longer than the time limit of the watchdog
    assert [] == manager.read()


def test_an_abstract_socket_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"holdline-{os.getpid()}"
    manager = Manager(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    service_manager.report_ready()
    assert ["READY=1\nSTATUS=ready"] == manager.read()
    manager.close()


@pytest.mark.parametrize("path", ["", "relative", "/nowhere/notify"])
def test_a_process_without_a_service_manager_runs(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    service_manager.report_ready()
