"""Files that may change while a process runs: read again when they have, never half written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_SECONDS: Final = 2.0
MAX_BYTES: Final = 16 * 1_048_576

_T = TypeVar("_T")
log = structlog.get_logger()


class LiveFile(Generic[_T]):
    """What a file says. One that cannot be read any more, or makes no sense, leaves what it said
    before in force, and a line in the log.
    """

    def __init__(self, path: str, parse: Callable[[str], _T]) -> None:
        """Reads it. Raises: ValueError, which says why it cannot be used."""
        self._path = Path(path)
        self._parse = parse
        self._mark = self._look()
        self._value = self._read()
        self._looked = time.monotonic()

    def get(self, *, at_once: bool = False) -> _T:
        """What the file says, or said up to `LOOK_SECONDS` ago; `at_once` looks in any case."""
        if not at_once and time.monotonic() - self._looked < LOOK_SECONDS:
            return self._value
        self._looked = time.monotonic()
        try:
            if (mark := self._look()) != self._mark:
                self._mark = mark
                self._value = self._read()
        except ValueError as error:
            log.warning("file not read", path=str(self._path), error=str(error))
        return self._value

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise ValueError(f"cannot be read: {type(error).__name__}") from None
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("is not a regular file")  # reading a pipe could take for ever
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> _T:
        try:
            text = self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ValueError(f"cannot be read: {type(error).__name__}") from None
        if len(text) > MAX_BYTES:
            raise ValueError(f"has more than {MAX_BYTES} bytes")
        return self._parse(text)


def replace(path: Path, content: bytes) -> None:
    """Writes a file that only its owner may read, whole or not at all. Raises: OSError."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks a file: commands that read and write it run one after the other. Raises: OSError."""
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
