"""Raises the process's limit of open files, and recognizes errors caused by reaching the limit."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_open_file_limit() -> None:
    """Raises the soft limit of open files to the hard limit, on systems that have these limits.

    Many systems start processes with a soft limit of 1024, because `select` supports no more files.
    """
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def is_exhausted(error: BaseException) -> bool:
    """Returns True if an error was caused by a local lack of file descriptors, sockets or memory.

    Name resolution reports a lack of file descriptors as a temporary failure of the name server.
    So if the error itself does not show the cause, this function tries to open a file.
    """
    if any(isinstance(one, OSError) and one.errno in _EXHAUSTED for one in _causes(error)):
        return True
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as found:
        return found.errno in _EXHAUSTED
    return False


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):  # at most 10 causes are followed, because they may form a cycle
        if error is None:
            return
        yield error
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
