"""Starts all processes of Holdline on this machine, and says what to do with them."""

import contextlib
import errno
import shlex
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from jobs.config.settings import ConfigError, check_names, text
from runtime.number import parse_whole

from .children import demo_model, redis_server, server, worker
from .data_dir import default_data_dir
from .embedded import prepared
from .external_redis import examine, without_secrets
from .redis import ExternalRedis, choose
from .settings_socket import settings_socket
from .supervise import Child, print_status, supervise

Changed = Callable[[], Awaitable[Path]]
DEFAULT_PORT: Final = 8080
# A server with one of these settings accepts only clients with a key or a token.
CREDENTIALS: Final = ("HOLDLINE_API_KEYS", "HOLDLINE_JWT_KEYS", "HOLDLINE_JWKS_URL")


class CannotStartError(Exception):
    """The program cannot start; the message says what the user has to change."""


async def run(
    environ: Mapping[str, str], data_dir: Path, again: str, changed: Changed | None = None
) -> int:
    """Starts all processes and runs them until they stop. Returns the exit status.

    `again` is the command that the user has typed. For `changed`, see `supervise`.

    Raises:
        ConfigError, CannotStartError, NoRedisError, DataDirError: the message says what to change.
    """
    check_names(environ)
    host, port = address(environ, again)
    inner = dict(environ)
    # Ctrl-C should stop all processes within seconds. The worker returns its unfinished jobs to the
    # queue, so they run again at the next start.
    inner.setdefault("HOLDLINE_SHUTDOWN_GRACE_SECONDS", "2")
    children: list[Child] = []
    see = "holdline status"
    private: Path | None = None
    async with contextlib.AsyncExitStack() as stack:
        match choose(environ):
            case ExternalRedis(url):
                redis = f"{await examine(url)} at {without_secrets(url)}"
            case program:
                embedded = stack.enter_context(prepared(program.path, data_dir))
                children.append(redis_server(embedded))
                inner["REDIS_URL"] = embedded.url
                private = embedded.socket.parent
                see = _status_command(environ, data_dir)
                name = program.path.name.removesuffix("-server")
                redis = (
                    f"{name} {program.version} from {program.origin}, data in {data_dir}\n"
                    f"          (for another server or worker, set REDIS_URL={embedded.url})"
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
        url = f"http://{shown}:{port}"
        text = banner(environ, url, redis, without_secrets(model), see)
        if private is not None:
            await stack.enter_async_context(settings_socket(private, inner))
        return await supervise(children, lambda: print_status(text), changed)


def address(environ: Mapping[str, str], again: str) -> tuple[str, int]:
    """Returns the host and port for the server, after a check that they are free.

    Raises:
        CannotStartError: the port is in use, or the host is not an address of this machine.
        ConfigError: the port is invalid.
    """
    host, value = text(environ, "HOLDLINE_HOST"), text(environ, "HOLDLINE_PORT")
    try:
        port = parse_whole(value)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise ConfigError(f"HOLDLINE_PORT must be a number between 1 and 65535, not {value}")
    try:
        if _is_free(host, port):
            return host, port
    except OSError as error:
        raise CannotStartError(f"cannot listen on HOLDLINE_HOST={host}: {error}") from None
    other = next((free for free in range(port + 1, 65536) if _is_free(host, free)), 8081)
    raise CannotStartError(
        f"port {port} on {host} is in use; choose another with `HOLDLINE_PORT={other} {again}`"
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


def _status_command(environ: Mapping[str, str], data_dir: Path) -> str:
    """Returns the command that shows the state of the Redis in a data folder."""
    if data_dir == default_data_dir(environ):
        return "holdline status"
    return f"HOLDLINE_DATA_DIR={shlex.quote(str(data_dir.absolute()))} holdline status"


def banner(environ: Mapping[str, str], url: str, redis: str, model: str, see: str) -> str:
    """Returns the text that is shown when all processes are ready.

    `see` is the command that shows the state of the service.
    """
    asked = "" if url.endswith(f":{DEFAULT_PORT}") else f" --url {url}"
    protected = any(environ.get(name) for name in CREDENTIALS)
    key = "an API key or token as api_key" if protected else "any api_key"
    token = "HOLDLINE_TOKEN=... " if protected else ""
    return f"""ready

  page    {url}
  SDKs    {url}/v1 as base_url, and {key}
  try     {token}holdline ask{asked} "Why is the sky blue?"
  see     {see}
  redis   {redis}
          (to use your own Redis, set REDIS_URL=redis://...)
  model   {model}
          (to use another model, set OPENAI_API_KEY or OPENAI_BASE_URL, and HOLDLINE_MODEL)

Ctrl-C stops everything."""
