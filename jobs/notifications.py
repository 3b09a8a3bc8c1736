"""Creates the subscriber of a process, which receives the notifications of all partitions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from .names import Partition
from .redis.subscriber import Subscriber

if TYPE_CHECKING:
    from .redis.connection import Redis
    from .redis.pipe import Pipe


def subscriber(redis: Redis, pipe: Pipe, partitions: range) -> Subscriber:
    """Returns a subscriber whose probes are published over `pipe`."""
    process = secrets.token_hex(8)
    return Subscriber(
        redis,
        probes=[Partition(number).probe(process) for number in partitions],
        publish=lambda channel, message: pipe.call("SPUBLISH", channel, message),
    )
