"""Tells the service manager that the process is ready and alive, as sd_notify(3) describes.

systemd sets NOTIFY_SOCKET for a unit with `Type=notify`, and WATCHDOG_USEC for one with
`WatchdogSec=`. Podman sets NOTIFY_SOCKET with `--sdnotify=container`.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

import structlog

from .loop import Loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALIVE: Final = "WATCHDOG=1"
SEND_SECONDS: Final = 1.0
MICROSECOND: Final = 1e-6

log = structlog.get_logger()


def report_ready() -> None:
    """Reports that the process is ready. Without a service manager, nothing happens."""
    _notify("READY=1\nSTATUS=ready")


def report_waiting(service: str) -> None:
    """Reports that the process has started, and waits for a service that it needs.

    The process counts as started, so that the service manager does not end it after the time limit
    for a start. A restart would not make the service available.
    """
    _notify(f"READY=1\nSTATUS=waiting for {service}")


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[None]:
    """Reports in the `async with` block that the process is alive.

    If the event loop hangs, the reports stop, and the service manager restarts the process. Only
    the process that the service manager watches reports. A child process of `--processes` does
    not, because its parent does.
    """
    seconds = _watchdog_seconds()
    if not seconds:
        yield
        return
    # Twice within the time limit, as sd_watchdog_enabled(3) recommends.
    async with Loop("watchdog", _report_alive, pause=(seconds / 3, seconds / 2), first_pause=None):
        yield


def _watchdog_seconds() -> float:
    """Returns the time limit between two reports, or 0 if nothing watches this process."""
    micro = os.environ.get("WATCHDOG_USEC", "")
    watched_pid = os.environ.get("WATCHDOG_PID", "") or str(os.getpid())
    if not (micro.isascii() and micro.isdecimal()) or watched_pid != str(os.getpid()):
        return 0.0
    return int(micro) * MICROSECOND


async def _report_alive() -> None:
    _notify(ALIVE)


def _notify(state: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path  # @ stands for an abstract socket
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(SEND_SECONDS)
            sender.sendto(state.encode(), address)
    except OSError as error:
        log.warning("service manager not reached", error=type(error).__name__)
