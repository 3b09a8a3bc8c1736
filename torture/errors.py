from __future__ import annotations

from pathlib import Path


class TortureError(Exception):
    """The base class of this package's errors."""


class UsageError(TortureError):
    """The command line cannot be carried out."""


class TargetError(TortureError):
    """A target file is invalid.

    Attributes:
        path: the file.
        line: the number of the line, from 1, or 0 if the error has no line.
        key: the key in the file, such as `process[2].ready.tcp`.
        reason: the mistake.
    """

    def __init__(self, path: Path, line: int, key: str, reason: str) -> None:
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {key}: {reason}" if key else f"{where}: {reason}")
        self.path = path
        self.line = line
        self.key = key
        self.reason = reason


class StartError(TortureError):
    """A process of the target, or its installation, has failed."""


class Broken(TortureError):
    """The target has broken the claim of a case. The message describes the difference."""


class PaidTwice(Broken):
    """The model was called more often than necessary. This is less severe than a lost answer."""
