"""The cursor of a stream in another protocol: the last event of the log that the client has.

A cursor is written `N:CHECKSUM`. If Redis has lost the end of a log, and the log has grown again,
the event `N` is another one, with another checksum. A client may also send the number alone. Then
the server compares no checksums.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from server.api.problem import invalid

if TYPE_CHECKING:
    from server.api.frames import Frame

PATTERN: Final = "(-1|[0-9]{1,15})(:[0-9a-f]{8})?"
MAX_NUMBER: Final = 999_999_999_999_999
_WRITTEN: Final = re.compile(PATTERN)


class AnswerCursor(NamedTuple):
    """The number of the last event, or -1, and its checksum, or "" if the client has none."""

    after: int = -1
    checksum: str = ""

    @classmethod
    def at(cls, frame: Frame) -> Self:
        """Returns the cursor of a client whose last event is this one."""
        return cls(frame.sequence_number, frame.checksum)

    @classmethod
    def parse(cls, written: str, name: str) -> Self:
        """Parses a cursor. `name` is the name of the field that contains it. Raises: Problem."""
        if not _WRITTEN.fullmatch(written):
            raise invalid(
                name,
                f"'{name}' must be the cursor of an event, or its number, which is -1 or has at "
                "most 15 digits.",
            )
        number, _, checksum = written.partition(":")
        after = int(number)
        return cls(after, checksum if after >= 0 else "")

    @classmethod
    def of_message(cls, given: Any, name: str) -> Self:
        """Parses a cursor in a JSON message, or a number. Raises: Problem."""
        if type(given) is int:
            given = str(given)
        return cls.parse(given if isinstance(given, str) else "", name)

    def __str__(self) -> str:
        return f"{self.after}:{self.checksum}" if self.checksum else str(self.after)

    def differs(self, frame: Frame) -> bool:
        """Returns True if `frame` has the number of the client's last event, but is another one."""
        if frame.sequence_number != self.after or not self.checksum:
            return False
        return self.checksum != frame.checksum


BEGINNING: Final = AnswerCursor()
