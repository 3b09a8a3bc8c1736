"""Runs Redis, the demo model, a server and a worker on this machine with one command."""

import argparse
import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .children import demo_model, redis_server, server, worker
from .embedded import DataDirError, prepared
from .external_redis import examine, without_secrets
from .foreground import alone_in_front
from .redis import ExternalRedis, NoRedisError, choose
from .reload import SourceWatcher
from .supervise import ROOT, Child, print_status, supervise

ENVIRONMENT = """environment:
  HOLDLINE_HOST, HOLDLINE_PORT   address and port of the server (127.0.0.1, 8080)
  HOLDLINE_DATA_DIR              data folder of the embedded Redis (.data in the checkout)
  REDIS_URL                      your own Redis instead of the embedded one
  OPENAI_API_KEY                 API key of the model's endpoint
  OPENAI_BASE_URL                base URL of the model's endpoint, which is OpenAI-compatible
  HOLDLINE_MODEL                 model for requests that name none
  HOLDLINE_MODELS                file of several models and prompt templates
If none of the OPENAI_ variables and HOLDLINE_MODELS is set, a simulated model answers;
see `python -m dev.model --help`.
For the other settings, see `python -m server --help` and `python -m worker --help`.
"""


class CannotStartError(Exception):
    """The user has to change something before the start; the message says what."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev",
        description=f"{__doc__} Ctrl-C stops everything.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--reload",
        action="store_true",
        help="restart the server and the worker when a source file changes",
    )
    options = parser.parse_args(arguments)
    try:
        with alone_in_front():
            return asyncio.run(run(os.environ, reload=options.reload))
    except (CannotStartError, NoRedisError, DataDirError) as error:
        print(f"holdline: {error}", file=sys.stderr)
        return 2


async def run(environ: Mapping[str, str], *, reload: bool = False) -> int:
    """Starts all processes and runs them until they stop. Returns the exit status."""
    host, port = address(environ)
    # Only this program uses this variable. The server and the worker would refuse it as unknown.
    inner = {name: value for name, value in environ.items() if name != "HOLDLINE_DATA_DIR"}
    # Ctrl-C should take effect within seconds. Jobs that are given back continue at the next start.
    inner.setdefault("HOLDLINE_SHUTDOWN_GRACE_SECONDS", "2")
    children: list[Child] = []
    with contextlib.ExitStack() as stack:
        match choose(environ):
            case ExternalRedis(url):
                redis = f"{await examine(url)} at {without_secrets(url)}"
            case program:
                data_dir = Path(environ.get("HOLDLINE_DATA_DIR") or ROOT / ".data")
                embedded = stack.enter_context(prepared(program.path, data_dir))
                children.append(redis_server(embedded))
                inner["REDIS_URL"] = embedded.url
                name = program.path.name.removesuffix("-server")
                redis = f"{name} {program.version} from {program.origin}, data in {data_dir}"
        if listed := environ.get("HOLDLINE_MODELS"):
            model = f"from {listed}"
        elif environ.get("OPENAI_API_KEY") or environ.get("OPENAI_BASE_URL"):
            model = environ.get("OPENAI_BASE_URL") or "OpenAI"
        else:
            child, inner = demo_model(inner)
            children.append(child)
            model = f"a simulation at {inner['OPENAI_BASE_URL']}"
        children += [server(inner, host, port), worker(inner)]
        shown = f"[{host}]" if ":" in host else host
        text = banner(f"http://{shown}:{port}", redis, without_secrets(model))
        changed = SourceWatcher(ROOT).changed if reload else None
        return await supervise(children, lambda: print_status(text), changed)


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Returns the host and port for the server, after a check that they are free.

    Raises:
        CannotStartError: the port is taken or invalid, or the host is not an address of this
            machine.
    """
    host = environ.get("HOLDLINE_HOST") or "127.0.0.1"
    value = environ.get("HOLDLINE_PORT") or "8080"
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise CannotStartError(f"HOLDLINE_PORT must be a number between 1 and 65535, not {value}")
    port = int(value)
    try:
        if _is_free(host, port):
            return host, port
    except OSError as error:
        raise CannotStartError(f"cannot listen on HOLDLINE_HOST={host}: {error}") from None
    other = next((free for free in range(port + 1, 65536) if _is_free(host, free)), 8081)
    raise CannotStartError(
        f"port {port} on {host} is in use; choose another with `HOLDLINE_PORT={other} make run`"
    )


def _is_free(host: str, port: int) -> bool:
    family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # The server sets this option too: connections in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(place)
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def banner(page: str, redis: str, model: str) -> str:
    return f"""ready

  page    {page}
  redis   {redis}
          (your own, for further servers and workers too: REDIS_URL=redis://...)
  model   {model}
          (another: OPENAI_API_KEY=... or OPENAI_BASE_URL=..., with HOLDLINE_MODEL=...)

Ctrl-C stops everything."""


if __name__ == "__main__":
    sys.exit(main())
