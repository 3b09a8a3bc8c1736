"""Lets other commands of the same user use the settings with which `holdline up` runs.

The socket is in the private folder of the embedded Redis, which only this user can open. Nothing is
written to a disk, because the settings may contain keys.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from jobs.config.setting import ADMIN, CLIENT, UP
from jobs.config.settings_table import SETTINGS

from .embedded import SETTINGS_SOCKET

# Settings that only commands read. They belong to the user who runs a command.
OF_COMMANDS = {each.name for each in SETTINGS.values() if each.readers in {ADMIN, CLIENT, UP}}
SECONDS = 2.0
# Linux limits the environment of a process to a few megabytes.
MAX_BYTES = 16 * 1024 * 1024


@contextlib.asynccontextmanager
async def settings_socket(folder: Path, environ: Mapping[str, str]) -> AsyncIterator[None]:
    """Answers each connection with the variables of the server and the worker, as JSON."""
    reply = json.dumps({name: value for name, value in environ.items() if name not in OF_COMMANDS})

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # TimeoutError is a subclass of OSError.
            async with asyncio.timeout(SECONDS):
                writer.write(reply.encode())
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        writer.transport.abort()

    async with await asyncio.start_unix_server(answer, folder / SETTINGS_SOCKET):
        yield


def settings_of(folder: Path) -> dict[str, str]:
    """Returns the variables of the `holdline up` with this private folder.

    Returns no variables if it does not answer, for example because it is still starting.
    """
    received = bytearray()
    with contextlib.suppress(OSError, ValueError), socket.socket(socket.AF_UNIX) as line:
        line.settimeout(SECONDS)
        line.connect(str(folder / SETTINGS_SOCKET))
        while (part := line.recv(65536)) and len(received) < MAX_BYTES:
            received += part
        found = json.loads(received)
        if isinstance(found, dict):
            return {str(name): str(value) for name, value in found.items()}
    return {}
