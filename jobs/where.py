"""Which kind of Redis an address names: one, one behind Sentinels, or a cluster."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from .cluster import Cluster
from .connect import Redis
from .sentinel import Sentinels

ONE: Final = "redis://[user:password@]host:port[/db]"
SENTINELS: Final = "redis+sentinel://[user:password@]host:port,host:port.../name[/db]"
CLUSTER: Final = "redis+cluster://[user:password@]host:port,host:port..."

KINDS: Final[dict[str, tuple[type[Redis], str]]] = {
    "redis": (Redis, ONE),
    "rediss": (Redis, ONE),
    "unix": (Redis, "unix:///path"),
    "redis+sentinel": (Sentinels, SENTINELS),
    "rediss+sentinel": (Sentinels, SENTINELS),
    "redis+cluster": (Cluster, CLUSTER),
    "rediss+cluster": (Cluster, CLUSTER),
}


def redis_at(url: str) -> Redis:
    """What is at this address; nothing is connected yet.

    Raises: ValueError, whose message says what an address must be, and nothing of this one.
    """
    scheme = urlsplit(url).scheme
    if scheme not in KINDS:
        raise ValueError(f"must begin with {', '.join(f'{name}://' for name in KINDS)}")
    kind, form = KINDS[scheme]
    try:
        return kind(url)
    except ValueError:
        raise ValueError(f"must look like {form}") from None
