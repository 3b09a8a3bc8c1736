"""The client's credential: an API key, a token, or a function that fetches a fresh token."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

Token = str | Callable[[], str | Awaitable[str]]

# Bounds the call of a token function, so that a hanging one cannot block the next try for ever.
FETCH_SECONDS: Final = 10.0


class Credential:
    """The current credential; its token may be replaced while the client runs."""

    def __init__(self, token: Token | None) -> None:
        self.token = token

    @property
    def renewable(self) -> bool:
        """True if a fresh token can be fetched when the present one has expired."""
        return callable(self.token)

    async def fetch(self) -> str | None:
        """Returns the key or token to send.

        Raises: TimeoutError, and any exception of the token function.
        """
        if not callable(self.token):
            return self.token
        async with asyncio.timeout(FETCH_SECONDS):
            found = self.token()
            return await found if inspect.isawaitable(found) else found

    async def headers(self) -> dict[str, str]:
        """Returns the headers of the upgrade request. Raises: the same as `fetch`."""
        token = await self.fetch()
        return {} if token is None else {"Authorization": f"Bearer {token}"}
