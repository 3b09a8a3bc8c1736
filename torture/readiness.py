"""Checks if a process is ready, and reports the condition that is not met."""

from __future__ import annotations

import asyncio
import os
import re
from typing import Final

import aiohttp

from torture.target import Ready

_PROBE_SECONDS: Final = 2.0


async def unready(ready: Ready | None, output: str) -> str:
    """Returns the reason why a running process with this output is not ready, or "" if it is."""
    match ready:
        case None:
            return ""
        case Ready("output"):
            found = re.search(ready.value, output)
            return "" if found else f"its output does not match {ready.value!r}"
        case Ready("tcp"):
            return await _tcp_problem(ready.value)
        case _:
            return await _http_problem(ready.value)


async def _tcp_problem(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host or "127.0.0.1", int(port))
    except TimeoutError:
        return f"{address} accepts no connection within {_PROBE_SECONDS:g} s"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return f"{address} accepts no connection: {reason}"
    writer.close()
    return ""


async def _http_problem(url: str) -> str:
    timeout = aiohttp.ClientTimeout(total=_PROBE_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as reply:
            if reply.status < 400:
                return ""
            return f"GET {reply.url} is answered with the status {reply.status}"
    except TimeoutError:
        return f"GET {url} is not answered within {_PROBE_SECONDS:g} s"
    except aiohttp.ClientError as error:
        return f"GET {url} fails: {error!s:.200}"
