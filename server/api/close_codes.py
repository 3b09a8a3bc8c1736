"""The codes with which the server itself closes a socket.

aiohttp closes with 1002, 1007 and 1009 on data that is no message. Of the band 4400 to 4499, the
codes of which read like a status of HTTP, 4408 and 4429 mean "come back, slowly"; clients take any
other code of the band, also one that they do not know, for final.
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why a socket is closed by the server."""

    RESTARTING = 1012
    TRY_AGAIN = 1013
    UNAUTHENTICATED = 4401
    SILENT = 4408
    TOO_MANY = 4429

    @property
    def come_back(self) -> bool:
        """Whether connecting again, unchanged, can help."""
        return self is not CloseCode.UNAUTHENTICATED
