"""Which kind of Redis an address names: one, one behind Sentinels, or a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .cluster import Cluster
from .connection import Redis
from .sentinel import Sentinels

if TYPE_CHECKING:
    from jobs.cipher import Cipher

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


def redis_at(url: str, cipher: Cipher | None = None) -> Redis:
    """What is at this address, and how what is kept there is encrypted; nothing is connected yet.

    Raises: ValueError, whose message says what an address must be, and nothing of this one.
    """
    scheme = urlsplit(url).scheme
    if scheme not in KINDS:
        raise ValueError(f"must begin with {', '.join(f'{name}://' for name in KINDS)}")
    kind, form = KINDS[scheme]
    try:
        return kind(url, cipher)
    except ValueError:
        raise ValueError(f"must look like {form}") from None
