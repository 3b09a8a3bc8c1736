"""Reads and locks the key files of `holdline keys`, `holdline signers` and `holdline vapid`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from jobs.config import settings as env
from jobs.config.settings import ConfigError
from runtime.watched_file import locked, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_T = TypeVar("_T")


def key_file(setting: str, environ: Mapping[str, str]) -> Path:
    """Returns the path of a key file. Raises: ConfigError if the setting names no file."""
    env.check_names(environ)
    path = env.text(environ, setting)
    if not path:
        raise ConfigError(f"{setting} is not set: set it to the path of the key file")
    return Path(path)


def read_key_file(setting: str, path: Path, parse: Callable[[str], _T]) -> _T | None:
    """Returns the parsed content of the file that a setting names, or None if there is no file.

    Raises: ConfigError, with the words of `holdline check`.
    """
    try:
        return parse(read_text(path)) if _may_exist(path) else None
    except ValueError as error:
        raise ConfigError(f"{setting}={path}: {error}") from None


@contextlib.contextmanager
def locked_key_file(setting: str, path: Path) -> Iterator[None]:
    """Locks the file that a setting names while a command changes it.

    Raises: ConfigError if the file or its folder cannot be written.
    """
    try:
        with locked(path):
            yield
    except OSError as error:
        reason = f"the file cannot be written: {type(error).__name__}"
        raise ConfigError(f"{setting}={path}: {reason}") from None


def _may_exist(path: Path) -> bool:
    """Returns False if there is no file; a path that cannot be looked up may be one."""
    try:
        path.stat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True
