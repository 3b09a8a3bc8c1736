"""Checks the base URLs of a target before the first case, because a wrong one fails every case."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import aiohttp

_SECONDS: Final = 5.0
_MISSING: Final = (404, 405)


async def problem_of(url: str, routes: Collection[str]) -> str:
    """Returns the error message for a base URL that cannot be right, or "".

    Sends a request whose body is not JSON, so that no server calls its model.
    """
    only_chat = set(routes) <= {"chat_completions"}
    path = "/chat/completions" if only_chat else "/responses"
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        status = await _status(http, url + path)
        if status in _MISSING:
            longer = await _status(http, f"{url}/v1{path}")
            if isinstance(longer, int) and longer not in _MISSING:
                return (
                    f"POST {url}{path} is answered with the status {status}, and POST "
                    f"{url}/v1{path} with {longer}: the base URL lacks /v1"
                )
    return status if isinstance(status, str) else ""


async def _status(http: aiohttp.ClientSession, url: str) -> int | str:
    """Returns the status of the reply, 0 without a reply, or the reason of a failed connection."""
    headers = {"Content-Type": "application/json"}
    try:
        async with http.post(url, data=b"{", headers=headers, allow_redirects=False) as reply:
            return reply.status
    except aiohttp.ClientConnectorError as error:
        return f"{url} cannot be reached: {error.strerror or error}"
    except (aiohttp.ClientError, TimeoutError):
        return 0
