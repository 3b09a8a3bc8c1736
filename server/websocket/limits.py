"""Reads each tenant's limits, and counts the tenant's sockets on this server process."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Final

from jobs.errors import RedisTrouble
from jobs.tenants import numbers
from server.api.problem import Problem
from server.api.refusals import FULL_RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.record import SharedSettings
    from jobs.tenants import Tenants

LOOK_SECONDS: Final = 0.5

# The limits of a tenant, keyed by the names in `tenants.FIELDS`; None means no limit.
Limits = dict[str, float | None]


class SocketLimiter:
    """Counts the open sockets of each tenant. Each `take` needs a `release`."""

    def __init__(
        self, tenants: Tenants, shared: SharedSettings, healthy: Callable[[], bool]
    ) -> None:
        """`healthy` returns False while Redis is unavailable, so that it is not queried."""
        self._tenants = tenants
        # The limits of all tenants that have no limits of their own. Their sockets share this dict.
        self.usual: Limits = {name: value or None for name, value in shared.of_tenants.items()}
        self._healthy = healthy
        self._taken: Counter[str] = Counter()

    async def take(self, tenant: str) -> Limits:
        """Counts one more socket for the tenant, and returns the tenant's limits.

        Raises: Problem if the tenant has reached its limit of open sockets.
        """
        limits = await self._limits(tenant)
        most = limits["sockets"]
        if most is not None and self._taken[tenant] >= most:
            raise Problem(
                429,
                "socket_limit_exceeded",
                f"You already have {most:g} sockets on this server, which is the limit. "
                "Close one, or try again later.",
                retry_after=FULL_RETRY_SECONDS,
                limit=("X-RateLimit-Limit-Sockets", most),
            )
        self._taken[tenant] += 1
        return limits

    def release(self, tenant: str) -> None:
        """Stops counting a socket of the tenant when the socket ends."""
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]

    async def _limits(self, tenant: str) -> Limits:
        """Returns the tenant's limits, or the default limits if Redis does not reply quickly."""
        found: dict[str, float] = {}
        with contextlib.suppress(RedisTrouble, TimeoutError):
            if self._healthy():
                async with asyncio.timeout(LOOK_SECONDS):
                    found = numbers(await self._tenants.get(tenant))
        if not found:
            return self.usual
        return {name: found.get(name, value) or None for name, value in self.usual.items()}
