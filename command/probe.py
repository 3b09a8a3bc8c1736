"""Asks a server or a worker whether it is ready, for the health check of a container."""

from __future__ import annotations

import os
from http.client import HTTPConnection, HTTPException
from itertools import pairwise
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final

import click

from jobs.config.settings import ConfigError, check_names, text, whole
from runtime.command_line import FAILED, INVALID_SETTINGS, Command, print_error

if TYPE_CHECKING:
    from collections.abc import Mapping

# Longer than a server needs to answer while Redis is unavailable.
TIMEOUT_SECONDS: Final = 7.0
# The settings of the address on which each program listens.
SETTINGS: Final = {
    "server": ("HOLDLINE_HOST", "HOLDLINE_PORT"),
    "worker": ("HOLDLINE_WORKER_HOST", "HOLDLINE_WORKER_PORT"),
}
# A process that listens on all addresses is asked on the loopback address.
LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
FIRST_PROCESS: Final = Path("/proc/1/cmdline")

HELP: Final = """\
Asks a server or a worker on this machine whether it is ready, at the address of its settings.

In a container that runs `holdline server` or `holdline worker`, the program need not be named.

examples:
  holdline probe server
  holdline probe worker --live    # only whether the process runs, even without Redis\
"""


def probe(program: str, environ: Mapping[str, str], *, live: bool) -> str:
    """Asks a server or a worker on this machine, and returns "" if it is ready, else the reason.

    With `live`, the process need not be ready. Raises: ConfigError.
    """
    check_names(environ)
    host_setting, port_setting = SETTINGS[program]
    host, port = text(environ, host_setting), whole(environ, port_setting)
    if not port:
        raise ConfigError(f"set {port_setting} to the port of the {program}")
    host = LOOPBACK.get(host, host)
    connection = HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        # A server without keys or tokens accepts only the names of the loopback address.
        connection.request("GET", "/livez" if live else "/readyz", headers={"Host": "localhost"})
        response = connection.getresponse()
        said = response.read(1024).decode(errors="replace")
    except (OSError, HTTPException) as error:
        return f"{host}:{port}: {type(error).__name__}: {error}"
    finally:
        connection.close()
    return "" if response.status == 200 else f"{host}:{port} answered {response.status}: {said}"


def first_program(arguments: bytes) -> str:
    """Returns the program in the arguments of `holdline`, as in /proc/1/cmdline, or ""."""
    for word, program in pairwise(arguments.decode(errors="replace").split("\0")):
        if PurePath(word).name == "holdline" and program in SETTINGS:
            return program
    return ""


def command() -> click.Command:
    """Returns the command `holdline probe`."""

    @click.argument("program", required=False, type=click.Choice([*SETTINGS]))
    @click.option("--live", is_flag=True, help="ask only whether the process runs")
    def callback(program: str | None, *, live: bool) -> int:
        found = program or first_program(FIRST_PROCESS.read_bytes())
        if not found:
            raise click.UsageError("name the program: server or worker")
        try:
            reason = probe(found, os.environ, live=live)
        except ConfigError as error:
            print_error(f"{found}: {error}")
            return INVALID_SETTINGS
        if reason:
            print_error(f"{found}: {reason}")
        return FAILED if reason else 0

    return click.command("probe", cls=Command, help=HELP)(callback)
