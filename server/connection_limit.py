"""The limit of the connections that a server process keeps open: WebSockets and event streams."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .api.problem import Problem
from .api.refusals import FULL_RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator


class ConnectionLimit:
    """Counts the open WebSockets and event streams of a process; a limit of 0 means no limit.

    A stream costs as much as a socket: a connection, a follower and a buffer.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open = 0

    def check(self) -> None:
        """Raises Problem if the server has reached its limit."""
        if 0 < self._limit <= self._open:
            raise Problem(
                429,
                "socket_limit_exceeded",
                f"This server has reached its limit of {self._limit} open sockets and streams "
                "(HOLDLINE_MAX_SOCKETS). Try again later, or connect to another server.",
                retry_after=FULL_RETRY_SECONDS,
                limit=("X-RateLimit-Limit-Sockets", self._limit),
            )

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Counts one connection while it is open, also above the limit."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
