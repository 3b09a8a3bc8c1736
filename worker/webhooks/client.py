"""Sends webhooks as single POST requests to an untrusted receiver.

The client checks the IP address after name resolution, when it opens the connection. A host name
that resolves to another address later cannot bypass this check. The client follows no redirects.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from runtime.public_address import is_public

# The specification Standard Webhooks recommends a timeout of 15 to 30 seconds.
TOTAL_SECONDS: Final = 15.0
CONNECT_SECONDS: Final = 5.0
WHOLE: Final = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of one attempt to send a webhook.

    If there was no HTTP response, `status` is None and `reason` names the cause. `retry_after` is
    in seconds.
    """

    status: int | None
    reason: str = ""
    retry_after: float = 0.0

    @property
    def accepted(self) -> bool:
        """True if the receiver has accepted the message."""
        return self.status is not None and 200 <= self.status < 300


class NotPublic(OSError):
    """The IP address of a webhook receiver is not public."""


class WebhookClient:
    """An HTTP client for webhooks. Use it as an async context manager."""

    def __init__(self, *, allow_private: bool, total: float = TOTAL_SECONDS) -> None:
        self._allow_private = allow_private
        self._total = total
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                # Every attempt resolves the host name and connects again, so that the address is
                # checked each time.
                force_close=True,
                use_dns_cache=False,
                socket_factory=self._socket,
            ),
            timeout=aiohttp.ClientTimeout(total=self._total, connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # the response body is not read
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def send(self, url: str, payload: bytes, headers: dict[str, str]) -> DeliveryResult:
        """Sends one request. The body of the response is not read."""
        if self._http is None:
            raise RuntimeError("the client must be used as an async context manager")
        try:
            async with self._http.post(
                url, data=payload, headers=headers, allow_redirects=False
            ) as response:
                return DeliveryResult(
                    response.status, "", _seconds(response.headers.get("Retry-After"))
                )
        except aiohttp.ClientConnectorError as error:
            refused = isinstance(error.os_error, NotPublic)
            return DeliveryResult(
                None, "the receiver's address is not public" if refused else type(error).__name__
            )
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return DeliveryResult(None, type(error).__name__)

    def _socket(self, info: tuple[Any, Any, int, str, tuple[Any, ...]]) -> socket.socket:
        """Returns a socket for a resolved address.

        Raises: NotPublic.
        """
        family, kind, protocol, _, address = info
        if not self._allow_private and not is_public(str(address[0])):
            raise NotPublic("the receiver's address is not public")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _seconds(written: str | None) -> float:
    """Returns the seconds in `Retry-After`, or 0 for a date or anything else."""
    return float(written) if written is not None and WHOLE.fullmatch(written) else 0.0
