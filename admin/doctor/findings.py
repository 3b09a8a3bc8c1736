"""Defines what a check finds, and the context in which it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from admin.cli import PROGRAMS

if TYPE_CHECKING:
    from jobs.redis.connection import Redis
    from jobs.redis.pipe import Pipe
    from server.config import Config as ServerConfig
    from worker.config import Config as WorkerConfig


SERVER: Final = "server"
WORKER: Final = "worker"


class Level(StrEnum):
    """How serious a finding is. Only `BROKEN` findings make the command fail."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"
    UNKNOWN = "unknown"  # this part could not be checked


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check. No text may contain a secret.

    `seen` is the observation, `why` the reason why it matters, `promise` the promise in
    docs/promises.md that it concerns, or "", and `command` the command that helps.
    """

    level: Level
    seen: str
    why: str = ""
    promise: str = ""
    command: str = ""


def ok(seen: str) -> Finding:
    """Returns a finding that needs no action."""
    return Finding(Level.OK, seen)


def warning(seen: str, why: str, command: str, promise: str = "") -> Finding:
    """Returns a finding that breaks no promise yet."""
    return Finding(Level.WARNING, seen, why, promise, command)


def broken(seen: str, why: str, command: str, promise: str) -> Finding:
    """Returns a finding that breaks a promise."""
    return Finding(Level.BROKEN, seen, why, promise, command)


def unknown(seen: str, command: str = "") -> Finding:
    """Returns a finding that says which part could not be checked, and why."""
    return Finding(Level.UNKNOWN, seen, command=command)


@dataclass(frozen=True, slots=True)
class Node:
    """A master of Redis. `info` has its INFO fields, and `config` its settings.

    `label` is the beginning of each finding about this master: empty if there is only one.
    `config` is None if the Redis user may not read the settings.
    """

    pipe: Pipe
    label: str
    info: Mapping[str, str]
    config: Mapping[str, str] | None

    def number(self, name: str) -> float:
        """Returns an INFO field as a number, or 0 if this version of Redis does not have it."""
        try:
            return float(self.info.get(name, "0"))
        except ValueError:
            return 0


@dataclass(slots=True)
class Context:
    """The environment, the settings and the connections that the checks examine.

    `programs` are the programs for which the environment is meant. `server` and `worker` are their
    settings, or None if they are invalid or not meant. `redis` and `pipe` are None if REDIS_URL is
    invalid, and `nodes` is empty until the check of Redis has reached it.
    """

    environ: Mapping[str, str]
    programs: tuple[str, ...] = PROGRAMS
    server: ServerConfig | None = None
    worker: WorkerConfig | None = None
    redis: Redis | None = None
    pipe: Pipe | None = None
    nodes: list[Node] = field(default_factory=list)

    @property
    def partitions(self) -> range:
        """The numbers of the partitions, or only 0 if the settings are invalid."""
        found = self.server or self.worker
        return found.shared.partitions if found else range(1)


@dataclass(frozen=True, slots=True)
class Check:
    """A check of one subject. `seconds` limits its duration.

    A check that `needs_redis` does not run if Redis cannot be reached.
    """

    subject: str
    run: Callable[[Context], AsyncIterator[Finding]]
    seconds: float = 10.0
    needs_redis: bool = False
