from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_STRUCTURE: Final = re.compile(r'[\\"{}\[\]]')


@dataclass(slots=True)
class ObjectScanner:
    """Finds the end of the first JSON object in a text that arrives in pieces."""

    depth: int = 0
    begun: bool = False
    plain: bool = False  # True if the text is not an object, so its end is unknown
    in_string: bool = False
    escaped: bool = False

    @property
    def complete(self) -> bool:
        return self.begun and not self.depth

    def end(self, text: str) -> int:
        """Returns the number of characters in the next piece `text` that belong to the object."""
        if self.complete:
            return 0
        if not self.begun and (stripped := text.lstrip()) and not stripped.startswith("{"):
            self.plain = True
        if self.plain:
            return len(text)
        skip = 1 if self.escaped else 0
        self.escaped = False
        for match in _STRUCTURE.finditer(text, skip):
            if match.start() < skip:
                continue
            mark = match[0]
            if mark == "\\":
                skip = match.end() + 1
                self.escaped = skip > len(text)
            elif mark == '"':
                self.in_string = not self.in_string
            elif not self.in_string:
                self.begun = True
                self.depth += 1 if mark in "{[" else -1
                if self.depth <= 0:
                    self.depth = 0
                    return match.end()
        return len(text)
