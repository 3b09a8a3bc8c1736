"""What each tenant may, and how many sockets it holds on this server process."""

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

# By `tenants.FIELDS`; None is no limit.
Limits = dict[str, float | None]


class SocketLimiter:
    """The sockets of all tenants here. Each `take` needs its `release`."""

    def __init__(
        self, tenants: Tenants, shared: SharedSettings, healthy: Callable[[], bool]
    ) -> None:
        """`healthy` says whether it is worth to ask Redis."""
        self._tenants = tenants
        # What a tenant may of which nothing is set. All sockets of such tenants share it.
        self.usual: Limits = {name: value or None for name, value in shared.of_tenants.items()}
        self._healthy = healthy
        self._taken: Counter[str] = Counter()

    async def take(self, tenant: str) -> Limits:
        """What the tenant may, which has one socket more now.

        Raises: Problem where it has as many as it may.
        """
        limits = await self._limits(tenant)
        most = limits["sockets"]
        if most is not None and self._taken[tenant] >= most:
            raise Problem(
                429,
                "socket_limit_exceeded",
                f"You have {most:g} sockets on this server already, and may have no more. "
                "Close one, or come back later.",
                retry_after=FULL_RETRY_SECONDS,
                limit=("X-RateLimit-Limit-Sockets", most),
            )
        self._taken[tenant] += 1
        return limits

    def release(self, tenant: str) -> None:
        """A socket of the tenant is over."""
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]

    async def _limits(self, tenant: str) -> Limits:
        """The usual ones also where Redis does not answer at once."""
        found: dict[str, float] = {}
        with contextlib.suppress(RedisTrouble, TimeoutError):
            if self._healthy():
                async with asyncio.timeout(LOOK_SECONDS):
                    found = numbers(await self._tenants.get(tenant))
        if not found:
            return self.usual
        return {name: found.get(name, value) or None for name, value in self.usual.items()}
