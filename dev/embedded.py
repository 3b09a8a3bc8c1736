"""A Redis server of our own, on a unix socket in a private folder and nowhere else."""

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# The server before us may still be writing its last lines after its parent was killed.
LOCK_SECONDS = 2.0
SOCKET = "redis.sock"


class DataDirError(Exception):
    """This folder cannot hold the data; the message says why and what to do."""

    def __init__(self, data_dir: Path, why: str) -> None:
        super().__init__(f"{data_dir} {why} with HOLDLINE_DATA_DIR=...")
        self.data_dir = data_dir


@dataclass(frozen=True)
class Embedded:
    """A server of our own that is ready to be started: the folders are there and locked.

    Whoever starts `argv` passes `lock` on to it, so that the data stays locked for as long as
    either of the two processes lives.
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
        """Whether PING gets its PONG: a server that still reads its file accepts and refuses."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as line:
            line.settimeout(1.0)
            line.connect(str(self.socket))
            line.sendall(b"PING\r\n")
            return line.recv(64).startswith(b"+PONG")
        return False

    def last_words(self) -> str:
        """The end of the server's log, for the message about its death."""
        with contextlib.suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-5:])
        return "(it left no log)"


@contextlib.contextmanager
def prepared(
    binary: Path, data_dir: Path | None = None, *options: str, persist: bool = True
) -> Iterator[Embedded]:
    """The folders of an embedded server, made, locked, and cleared away afterwards.

    Without a data folder there is a throw-away one. `options` are further arguments of the
    server, such as `"--maxmemory", "4mb"`.

    Raises:
        DataDirError: another one holds the folder, or it cannot be written.
    """
    keep = ("--appendonly", "yes", "--appendfsync", "everysec") if persist else ()
    with contextlib.ExitStack() as stack:
        # Short, because a socket's path may have 104 bytes on macOS; mkdtemp makes it 0700.
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdline-")))
        data = private if data_dir is None else data_dir.absolute()
        try:
            data.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
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
                why = "is in use by another Holdline; stop that one, or choose another folder"
                raise DataDirError(data, why) from None
            time.sleep(0.05)


def _clear_away(lock: int, private: Path) -> None:
    """The lock file names the private folder of its last holder, who may have been killed before
    it could remove it; ours takes the place.
    """
    if before := os.pread(lock, 4096, 0).decode():
        with contextlib.suppress(OSError):
            (Path(before) / SOCKET).unlink(missing_ok=True)
            Path(before).rmdir()
    os.truncate(lock, 0)
    os.pwrite(lock, str(private).encode(), 0)
