"""Configures an embedded Redis server that listens only on a Unix socket in a private folder."""

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The time to wait for the lock on the data folder. If the parent of an earlier server was killed,
# the server may still be writing its files.
LOCK_SECONDS = 2.0
SOCKET = "redis.sock"
SETTINGS_SOCKET = "settings.sock"
LOCK = "lock"


class DataDirError(Exception):
    """The data folder of the embedded Redis cannot be used; the message says why and what to do."""

    def __init__(self, data_dir: Path, why: str) -> None:
        super().__init__(f"{data_dir} {why} with HOLDLINE_DATA_DIR=...")
        self.data_dir = data_dir


@dataclass(frozen=True)
class Embedded:
    """An embedded Redis server that can be started: its folders exist and are locked.

    The process that starts `argv` must pass the file descriptor `lock` to the server, so that the
    data folder stays locked as long as this process or the server runs.
    """

    binary: Path
    data_dir: Path
    socket: Path
    lock: int
    options: tuple[str, ...]

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        return self.data_dir / "redis.log"

    @property
    def argv(self) -> list[str]:
        return [
            *(str(self.binary), "--port", "0"),
            *("--unixsocket", str(self.socket), "--unixsocketperm", "700"),
            *("--dir", str(self.data_dir), "--logfile", str(self.log)),
            *("--daemonize", "no", "--maxmemory-policy", "noeviction"),
            *self.options,
        ]

    def answers(self) -> bool:
        """Returns True if the server replies to PING.

        The result is False while the server is still loading its append-only file.
        """
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1.0)
            line.connect(str(self.socket))
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
        return False

    def last_words(self) -> str:
        """Returns the end of the server's log, for the error message after it has exited."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return "(there is no log)"


@contextlib.contextmanager
def prepared(
    binary: Path, data_dir: Path | None = None, *options: str, persist: bool = True
) -> Iterator[Embedded]:
    """Creates and locks the folders of an embedded server, and removes temporary folders on exit.

    Without `data_dir`, the server stores its data in a temporary folder. `options` are additional
    arguments of the server, such as `"--maxmemory", "4mb"`.

    Raises:
        DataDirError: another Holdline uses the folder, or it is not writable.
    """
    keep = ("--appendonly", "yes", "--appendfsync", "everysec") if persist else ()
    with contextlib.ExitStack() as stack:
        # The prefix is short, because macOS limits the path of a Unix socket to 104 bytes. The
        # folder is private: TemporaryDirectory creates it with mode 0700.
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdline-")))
        data = private if data_dir is None else data_dir.absolute()
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(data / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataDirError(data, f"cannot be used ({error.strerror}); choose another") from None
        stack.callback(os.close, lock)
        _lock(lock, data)
        _clear_away(lock, private)
        options = ("--save", "", *keep, *options)
        yield Embedded(binary, data, private / SOCKET, lock, options)


def _lock(lock: int, data: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                why = "is in use by another Holdline; stop it, or choose another folder"
                raise DataDirError(data, why) from None
            time.sleep(0.05)


def _clear_away(lock: int, private: Path) -> None:
    """Removes the private folder of the previous server, and records `private` in the lock file.

    The lock file contains the path of the previous server's private folder. A process that was
    killed could not remove this folder.
    """
    if before := os.pread(lock, 4096, 0).decode():
        with contextlib.suppress(OSError):
            for name in (SOCKET, SETTINGS_SOCKET):
                (Path(before) / name).unlink(missing_ok=True)
            Path(before).rmdir()
    os.truncate(lock, 0)
    os.pwrite(lock, str(private).encode(), 0)
