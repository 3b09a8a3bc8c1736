"""What a client shows to a server: an API key, a token, or a function that fetches a fresh one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

Token = str | Callable[[], str | Awaitable[str]]

# A function that does not answer must not hold up the next try for ever.
FETCH_SECONDS: Final = 10.0


class Credential:
    """The one that counts now; it may be replaced while the client runs."""

    def __init__(self, token: Token | None) -> None:
        self.token = token

    @property
    def renewable(self) -> bool:
        """Whether another one can be had when this one has ended."""
        return callable(self.token)

    async def fetch(self) -> str | None:
        """The key or token to show. Raises: TimeoutError, and what the function raises."""
        if not callable(self.token):
            return self.token
        async with asyncio.timeout(FETCH_SECONDS):
            found = self.token()
            return await found if inspect.isawaitable(found) else found

    async def headers(self) -> dict[str, str]:
        """The headers of an upgrade. Raises: as `fetch`."""
        token = await self.fetch()
        return {} if token is None else {"Authorization": f"Bearer {token}"}
