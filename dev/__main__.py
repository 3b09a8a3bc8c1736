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
  HOLDLINE_HOST, HOLDLINE_PORT   address and port of the server (default: 127.0.0.1, 8080)
  HOLDLINE_DATA_DIR              data folder of the embedded Redis (default: .data in the checkout)
  REDIS_URL                      URL of your own Redis, to use instead of the embedded Redis
  OPENAI_API_KEY                 API key of the model's endpoint
  OPENAI_BASE_URL                base URL of the model's endpoint, which is OpenAI-compatible
  HOLDLINE_MODEL                 model for requests that name no model
  HOLDLINE_MODELS                file that defines several models and prompt templates
If neither an OPENAI_ variable nor HOLDLINE_MODELS is set, a simulated model answers;
see `python -m dev.model --help`.
For the other settings, see `python -m server --help` and `python -m worker --help`.
"""


class CannotStartError(Exception):
    """The program cannot start; the message says what the user has to change."""


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
    # Only this program reads HOLDLINE_DATA_DIR. Server and worker would reject it as unknown.
    inner = {name: value for name, value in environ.items() if name != "HOLDLINE_DATA_DIR"}
    # Ctrl-C should stop all processes within seconds. The worker returns its unfinished jobs to the
    # queue, so they run again at the next start.
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
                redis = (
                    f"{name} {program.version} from {program.origin}, data in {data_dir}\n"
                    f"          (for admin commands, set REDIS_URL={embedded.url})"
                )
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
        CannotStartError: the port is in use or invalid, or the host is not an address of this
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
        # The server sets SO_REUSEADDR too, so it can use a port with connections in TIME_WAIT.
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
          (to use your own Redis, set REDIS_URL=redis://...)
  model   {model}
          (to use another model, set OPENAI_API_KEY or OPENAI_BASE_URL, and HOLDLINE_MODEL)

Ctrl-C stops everything."""


if __name__ == "__main__":
    sys.exit(main())
