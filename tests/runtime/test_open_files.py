"""Tests that the limit of open files is raised, and that errors at the limit are recognized."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from runtime.open_files import is_exhausted

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

RAISED = """
import resource
from runtime.open_files import raise_open_file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
raise_open_file_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    found = subprocess.run(
        [sys.executable, "-c", RAISED], capture_output=True, text=True, check=True, timeout=20
    )
    assert "128 128" == found.stdout.strip()


def _raised(inner: OSError) -> Iterator[BaseException]:
    yield inner
    wrapped = ConnectionError("cannot connect")
    wrapped.__cause__ = inner
    yield wrapped
    outer = RuntimeError("connection error")
    outer.__context__ = wrapped
    yield outer


def test_exhausted_file_descriptors_are_recognized_behind_library_errors() -> None:
    for lack in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        assert all(is_exhausted(error) for error in _raised(OSError(lack, "lack")))
    for fault in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EPIPE):
        assert not any(is_exhausted(error) for error in _raised(OSError(fault, "fault")))


def test_an_unclear_error_is_checked_by_opening_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = OSError("Temporary failure in name resolution")
    assert not is_exhausted(unknown)

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    assert is_exhausted(unknown)
