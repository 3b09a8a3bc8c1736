"""Selects the kind of connection for a Redis URL: to a single node, Sentinel or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .cluster import Cluster
from .connection import Redis
from .sentinel import Sentinels

if TYPE_CHECKING:
    from jobs.cipher import Cipher

_SINGLE: Final = "redis://[user:password@]host:port[/db]"
_SENTINEL: Final = "redis+sentinel://[user:password@]host:port,host:port.../name[/db]"
_CLUSTER: Final = "redis+cluster://[user:password@]host:port,host:port..."

# Maps each URL scheme to the class that opens connections, and to the form of its URLs.
_SCHEMES: Final[dict[str, tuple[type[Redis], str]]] = {
    "redis": (Redis, _SINGLE),
    "rediss": (Redis, _SINGLE),
    "unix": (Redis, "unix:///path"),
    "redis+sentinel": (Sentinels, _SENTINEL),
    "rediss+sentinel": (Sentinels, _SENTINEL),
    "redis+cluster": (Cluster, _CLUSTER),
    "rediss+cluster": (Cluster, _CLUSTER),
}


def redis_from_url(url: str, cipher: Cipher | None = None) -> Redis:
    """Returns an object that opens connections to the Redis at `url`. Does not connect yet.

    `cipher` encrypts jobs and logs.

    Raises: ValueError, whose message describes valid URLs and contains no part of `url`, because
        `url` may contain a password.
    """
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise ValueError(f"the URL must begin with {', '.join(f'{name}://' for name in _SCHEMES)}")
    connector, form = _SCHEMES[scheme]
    try:
        return connector(url, cipher)
    except ValueError:
        raise ValueError(f"the URL must have the form {form}") from None
