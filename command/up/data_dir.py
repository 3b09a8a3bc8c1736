"""The data folder of the embedded Redis, and how other commands find `holdline up` through it."""

import fcntl
from collections.abc import Mapping
from pathlib import Path

from jobs.config.environ import Environ
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


def with_running_settings(environ: Mapping[str, str]) -> Environ:
    """Returns the environment for a command of an operator.

    If REDIS_URL is not set and `holdline up` runs in the data folder, the settings are those of its
    server and worker, and the variables of the command itself override them.
    """
    try:
        private = _running(data_dir(environ))
    # A user without an entry in /etc/passwd, as in a container, has no home without HOME.
    except RuntimeError:
        private = None
    if private is None:
        return Environ(environ)
    url = f"unix://{private / SOCKET}"
    if (own := environ.get("REDIS_URL", "").strip()) and own != url:
        return Environ(environ, other="unset REDIS_URL")
    # These imports would slow down each command without a running `holdline up`.
    from jobs.config.settings_table import SETTINGS

    from .settings_socket import OF_COMMANDS, settings_of

    running = {"REDIS_URL": url, **settings_of(private)}
    # An empty variable counts as unset.
    named = {name: value for name, value in environ.items() if value or name not in running}
    of_service = named.keys() & SETTINGS.keys() - OF_COMMANDS
    changed = sorted(name for name in of_service if named[name] != running.get(name))
    source = "the settings of the running `holdline up`"
    if changed:
        source += f", except for variables of this command: {', '.join(changed)}"
    return Environ(running | named, source)


def _running(folder: Path) -> Path | None:
    """Returns the private folder of the Redis that uses the data folder, or None if none does.

    As long as it runs, the lock file is locked, and contains the path of the private folder.
    """
    try:
        with (folder / LOCK).open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Path(lock.read(4096).decode())
    except (OSError, ValueError):
        pass
    return None
