"""The close codes that the server itself sends on a WebSocket.

aiohttp closes with 1002, 1007 and 1009 when it receives malformed data. The codes from 4400 to 4499
mirror HTTP status codes. Among them, 4408 and 4429 ask the client to reconnect with backoff;
clients treat every other code in that range as final, including codes that they do not know.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """The close code that tells a client why the server closes the socket."""

    RESTARTING = 1012
    TRY_AGAIN = 1013
    UNAUTHENTICATED = 4401
    SILENT = 4408
    TOO_MANY = 4429

    @property
    def come_back(self) -> bool:
        """True if reconnecting with the same credentials can succeed."""
        return self is not CloseCode.UNAUTHENTICATED
