"""Shows one answer: the text on standard output, and the status on standard error.

On a terminal, the text appears as it arrives. If the answer starts over, a line announces the
restart, and the new text appears below it. In a pipe or a file, text cannot be taken back, so it is
written only when it is complete, unless the user requested streaming.
"""

from __future__ import annotations

import re
import time
from json import dumps
from typing import TYPE_CHECKING, Final, TextIO

from .events import Accepted, Connection, Ended, Item, Queued, Restarted, TextDelta

if TYPE_CHECKING:
    from .answer import Answer
    from .events import Event

# Control characters in model output are made visible, so that the terminal does not execute escape
# sequences. Tabs and newlines stay.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# The terminal sequences that write and erase the status. The status is on a separate line, or
# follows text that will continue on the same line.
_ERASE: Final = "\r\x1b[K"
_STATUS_BEHIND_TEXT: Final = "\x1b7\x1b[2m [{}]\x1b[0m"
_ERASE_BEHIND_TEXT: Final = "\x1b8\x1b[J"


def harmless(text: str) -> str:
    """Makes control characters visible, so that a terminal executes no escape sequences."""
    return _CONTROLS.sub(_visible, text)


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == 13:
        return ""  # the first half of a CRLF line ending
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"


class Terminal:
    """Shows one answer on two text streams.

    If `stream` is True, text is written as it arrives. If `json` is True, the response is written
    as a line of JSON in the place of the text.
    """

    def __init__(
        self, out: TextIO, status: TextIO, *, stream: bool | None = None, json: bool = False
    ) -> None:
        self._out = out
        self._status = status
        self._json = json
        self._stream = not json and (out.isatty() if stream is None else stream)
        self._clean = out.isatty()
        self._lively = status.isatty()
        self._shown = ""  # the status that is on the screen now
        self._behind_text = False  # True if the status follows text on its line
        self._column = 0
        self._wrote = False
        self._began = time.monotonic()

    @property
    def streams(self) -> bool:
        """True if text is written as it arrives."""
        return self._stream

    def show(self, event: Event) -> None:
        """Shows one event of the answer."""
        match event:
            case TextDelta(text):
                self._add_text(text)
            case Restarted(attempt, reason):
                self._restarted(attempt, reason)
            case Queued(position, eta, reason):
                self._set_status(_queue_status(position, eta, reason))
            case Connection("open"):
                self._set_status("")
            case Connection(state):
                self._set_status(f"{state} …")
            case Accepted(id_):
                self._set_status(f"{id_} accepted")
            case Item() | Ended():
                pass

    def end(self, answer: Answer) -> None:
        """Writes the remaining text. On a terminal, also writes a line that sums up the answer."""
        self._set_status("")
        if self._json:
            if answer.response is not None:
                self._write(f"{dumps(answer.response)}\n")
        elif not self._stream and answer.text:
            self._write(answer.text)
        if self._column and self._clean:
            self._write("\n")
        if self._lively and answer.status == "completed":
            spent = time.monotonic() - self._began
            used = (answer.usage or {}).get("output_tokens")
            tokens = "" if used is None else f" · {used} tokens"
            self.write_line(f"{answer.id} · {spent:.1f} s{tokens}")

    def write_line(self, line: str) -> None:
        """Writes a separate line to standard error, even if standard error is not a terminal."""
        self._set_status("")
        if self._column and self._clean and self._lively:
            self._write("\n")
        self._status.write(f"{harmless(line)}\n")
        self._status.flush()

    def redraw(self) -> None:
        """Writes the status again, after other output on the terminal may have replaced it."""
        shown, self._shown = self._shown, ""
        self._set_status(shown)

    def _add_text(self, text: str) -> None:
        if self._stream:
            self._set_status("")
            self._write(text)

    def _restarted(self, attempt: int, reason: str) -> None:
        self._set_status("")
        if self._stream and self._wrote:
            if self._column:
                self._write("\n")
            if not self._lively:
                self._write("\n")
            self.write_line(
                f"--- {reason or 'restarted'}: the answer starts over (attempt {attempt}) ---"
            )
            self._wrote = False

    def _write(self, text: str) -> None:
        self._out.write(harmless(text) if self._clean else text)
        self._out.flush()
        self._wrote = True
        self._column = 0 if text.endswith("\n") else 1

    def _set_status(self, status: str) -> None:
        """Replaces the status on the screen, if standard error is a terminal."""
        if not self._lively or status == self._shown:
            return
        if self._shown:
            self._status.write(_ERASE_BEHIND_TEXT if self._behind_text else _ERASE)
        self._behind_text = bool(self._column)
        if status:
            shape = _STATUS_BEHIND_TEXT if self._behind_text else "\x1b[2m{}\x1b[0m"
            self._status.write(shape.format(harmless(status)))
        self._status.flush()
        self._shown = status


def _queue_status(position: int | None, eta: float | None, reason: str | None) -> str:
    place = "waiting" if position is None else f"number {position} in the queue"
    time_left = "" if eta is None else f", about {eta:.0f} s"
    return f"{place}{time_left} ({reason or 'busy'})"
