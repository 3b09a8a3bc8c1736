"""Reads server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_MAX_LINE_BYTES: Final = 64 * 2**20


class EventParser:
    """Splits the bytes of an event stream into the data of its events."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []

    def feed(self, content: bytes) -> Iterator[str]:
        """Yields the data of each event that these bytes complete.

        Raises:
            ValueError: a line is not UTF-8, or is too long.
        """
        self._rest += content
        lines = self._rest.replace(b"\r\n", b"\n").split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _MAX_LINE_BYTES:
            raise ValueError("a line of the event stream is too long")
        for line in lines:
            if line:
                field, _, value = line.decode().partition(":")
                if field == "data":
                    self._data.append(value.removeprefix(" "))
            elif self._data:
                yield "\n".join(self._data)
                self._data = []
