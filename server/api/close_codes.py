"""Close codes. The band tells a client whether to come back, also one that knows no code of ours.

1001, 1011, 1012, 1013            come back, elsewhere if you can
1002, 1003, 1007, 1009            what you sent is not a message; another one will be
4400 4401 4403 4413               do not come back before you have changed something
4408 4429                         come back, slowly
"""

from __future__ import annotations

from enum import IntEnum


class CloseCode(IntEnum):
    """Why a socket is closed by the server."""

    RESTARTING = 1012
    TRY_AGAIN = 1013
    BAD_MESSAGE = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    SILENT = 4408
    TOO_LARGE = 4413
    TOO_MANY = 4429

    @property
    def come_back(self) -> bool:
        """Whether connecting again, unchanged, can help."""
        return self in (
            CloseCode.RESTARTING,
            CloseCode.TRY_AGAIN,
            CloseCode.SILENT,
            CloseCode.TOO_MANY,
        )
