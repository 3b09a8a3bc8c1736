"""Defines the credential of a client: an API key, a token, or a function that returns a token."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

Token = str | Callable[[], str | Awaitable[str]]

# The time limit for a token function. Without it, a function that hangs would block all further
# connection attempts.
FETCH_SECONDS: Final = 10.0


class Credential:
    """The current credential of a client. Its token may be replaced while the client runs."""

    def __init__(self, token: Token | None) -> None:
        self.token = token

    @property
    def renewable(self) -> bool:
        """True if the client can fetch a fresh token when the current token has expired."""
        return callable(self.token)

    async def fetch(self) -> str | None:
        """Returns the key or token to send.

        Raises: TimeoutError; any exception of the token function.
        """
        if not callable(self.token):
            return self.token
        async with asyncio.timeout(FETCH_SECONDS):
            found = self.token()
            return await found if inspect.isawaitable(found) else found

    async def headers(self) -> dict[str, str]:
        """Returns the HTTP headers for opening a WebSocket.

        Raises: the same errors as `fetch`.
        """
        token = await self.fetch()
        return {} if token is None else {"Authorization": f"Bearer {token}"}
