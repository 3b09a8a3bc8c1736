"""The script of an answer, which a prompt carries as `[torture id=ab12 pieces=40 ...]`."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

# The behaviours of the model at the piece `at`.
ACTS: Final = {
    "ok": "the whole answer",
    "cut": "resets the connection",
    "end": "ends the body as if it were complete, but without the end of the answer",
    "hang": "sends nothing more",
    "length": "stops because of the limit of tokens",
    "filter": "stops because of a content filter",
    "event": "sends an error event and ends the body",
    "garbage": "sends a line that is not JSON and ends the body",
    "error": "answers with `status` and an error, before any piece",
    "html": "answers with `status` and a page of HTML, before any piece",
    "empty": "answers with 200 and an empty body",
}
_SCRIPT: Final = re.compile(r"\[torture ([^\]]*)\]")


@dataclass(frozen=True)
class Script:
    """The behaviour of the model for one prompt.

    Attributes:
        id: names the prompt in the records.
        pieces: the number of pieces of the answer.
        pace_ms: the pause before each piece.
        size: the minimum number of bytes of a piece.
        do: one of `ACTS`, which happens before the piece `at`.
        times: the number of calls to which `do` applies, or -1 for all; later calls get the whole
            answer.
        hold: the piece before which the model waits until the case releases it; -1 is none.
        status: of an error.
        retry_after: the header of an error in seconds; -1 is none.
    """

    id: str = ""
    pieces: int = 20
    pace_ms: float = 0.0
    size: int = 0
    do: str = "ok"
    at: int = 0
    times: int = -1
    hold: int = -1
    status: int = 500
    retry_after: int = -1

    def write(self) -> str:
        """Returns the script for a prompt. Values that are the default are left out."""
        words = [
            f"{one.name}={getattr(self, one.name)}"
            for one in fields(self)
            if getattr(self, one.name) != one.default
        ]
        return f"[torture {' '.join(words)}]"

    def act(self, call: int) -> str:
        """Returns the behaviour of the model in the call with this number, from 1."""
        return self.do if self.times < 0 or call <= self.times else "ok"


def read(prompt: str) -> Script:
    """Returns the last script in a prompt. Without one, the answer is the default one."""
    found = _SCRIPT.findall(prompt)
    values: dict[str, Any] = {}
    kinds = {name: type(value) for name, value in asdict(Script()).items()}
    for word in found[-1].split() if found else []:
        name, _, value = word.partition("=")
        if name in kinds:
            values[name] = kinds[name](value)
    return Script(**values)


def last_user_text(messages: Any) -> str:
    """Returns the text of the last user message of a chat, or of the input of a response."""
    if isinstance(messages, str):
        return messages
    texts = [
        _text_of(message.get("content"))
        for message in messages
        if isinstance(message, dict) and message.get("role") == "user"
    ]
    return texts[-1] if texts else ""


def all_text(messages: Any) -> str:
    """Returns the text of all messages, whatever their roles."""
    if isinstance(messages, str):
        return messages
    return "\n".join(_text_of(m.get("content")) for m in messages if isinstance(m, dict))


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
