"""The limit of the connections that a server process keeps open: WebSockets and event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .api.problem import Problem
from .api.refusals import FULL_RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sized


class ConnectionLimit:
    """Limits the number of open WebSockets and event streams of a process.

    A stream costs as much as a socket: a connection, a follower and a buffer. `is_set` is False if
    there is no limit.
    """

    def __init__(self, limit: int) -> None:
        """A `limit` of 0 means no limit."""
        self._limit = limit
        self.is_set = limit > 0
        self._counted: list[Sized] = []

    def count(self, connections: Sized) -> None:
        """Counts the connections in a collection, which its owner keeps up to date."""
        self._counted.append(connections)

    def check(self) -> None:
        """Raises Problem if the server has reached its limit."""
        if self.is_set and sum(map(len, self._counted)) >= self._limit:
            raise Problem(
                429,
                "socket_limit_exceeded",
                f"This server has reached its limit of {self._limit} open sockets and streams "
                "(HOLDLINE_MAX_SOCKETS). Try again later, or connect to another server.",
                retry_after=FULL_RETRY_SECONDS,
                limit=("X-RateLimit-Limit-Sockets", self._limit),
            )
