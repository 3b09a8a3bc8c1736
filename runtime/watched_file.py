"""Reloads files that change while a process runs, and writes files atomically."""

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
    """The parsed content of a file, which is reloaded when the file changes.

    If the changed file cannot be read or is invalid, the process keeps the earlier content and logs
    a warning.
    """

    def __init__(self, path: str, parse: Callable[[str], _T]) -> None:
        """Reads the file. Raises: ValueError, whose message says why the file cannot be used."""
        self._path = Path(path)
        self._parse = parse
        self._mark = self._look()
        self._value = self._read()
        self._looked = time.monotonic()

    def get(self, *, at_once: bool = False) -> _T:
        """Returns the content of the file, which is at most `LOOK_SECONDS` old.

        With `at_once`, checks the file for changes first.
        """
        if not at_once and time.monotonic() - self._looked < LOOK_SECONDS:
            return self._value
        self._looked = time.monotonic()
        try:
            if (mark := self._look()) != self._mark:
                self._mark = mark
                self._value = self._read()
        except ValueError as error:
            log.warning(
                "file reload failed: keeping the previous content",
                file=str(self._path),
                reason=str(error),
            )
        return self._value

    def _look(self) -> tuple[int, int, int]:
        found = _stat(self._path)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> _T:
        return self._parse(read_text(self._path))


def read_text(path: Path) -> str:
    """Reads a settings file. Raises: ValueError, whose message says why the file cannot be used."""
    _stat(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ValueError(f"the file has more than {MAX_BYTES} bytes")
        return content.decode()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"the file cannot be read: {type(error).__name__}") from None


def _stat(path: Path) -> os.stat_result:
    try:
        found = path.stat()
    except OSError as error:
        raise ValueError(f"the file cannot be read: {type(error).__name__}") from None
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("the path is not a regular file")  # a read from a pipe may block
    return found


def replace(path: Path, content: bytes) -> None:
    """Replaces a file atomically; only its owner may read the new file. Raises: OSError."""
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
    """Locks a file, so that only one command at a time changes it. Raises: OSError."""
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
