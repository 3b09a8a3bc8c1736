"""The data folder of the embedded Redis, and how other commands find this Redis through it."""

import contextlib
import fcntl
from collections.abc import Mapping
from pathlib import Path

from runtime.command_line import INSTALLED

from .embedded import LOCK, SOCKET


def data_dir(environ: Mapping[str, str]) -> Path:
    """Returns the data folder of the embedded Redis."""
    named = environ.get("HOLDLINE_DATA_DIR")
    return Path(named) if named else default_data_dir(environ)


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Returns the data folder without HOLDLINE_DATA_DIR.

    In a checkout it is `.data`. For an installed Holdline it is in the folder that the XDG Base
    Directory Specification names, which ignores a relative XDG_DATA_HOME.

    Raises: RuntimeError if the user has no home folder.
    """
    if not INSTALLED:
        return Path(__file__).resolve().parents[2] / ".data"
    home = Path(environ.get("XDG_DATA_HOME") or "")
    return (home if home.is_absolute() else Path.home() / ".local/share") / "holdline"


def with_running_redis(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment for a command of an operator.

    If REDIS_URL is not set, it is the URL of the running Redis in the data folder, if there is one.
    """
    found = dict(environ)
    # A user without an entry in /etc/passwd, as in a container, has no home without HOME.
    with contextlib.suppress(RuntimeError):
        if not found.get("REDIS_URL", "").strip() and (url := _running(data_dir(environ))):
            found["REDIS_URL"] = url
    return found


def _running(folder: Path) -> str | None:
    """Returns the URL of the Redis that uses the folder, or None if none does.

    As long as it runs, the lock file is locked, and contains the path of the socket's folder.
    """
    try:
        with (folder / LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return f"unix://{Path(lock.read(4096).decode()) / SOCKET}"
    except (OSError, ValueError):
        pass
    return None
