"""Converts the errors of code that decodes a reply of Redis, which another program may have caused.

A reply has the wrong form if another program has written Holdline's keys, or if REDIS_URL names a
program that is not Redis.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from jobs.errors import RedisRefused

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def decoding(what: str) -> Iterator[None]:
    """Converts errors in the `with` block, which decodes a reply. `what` names the data.

    Raises: RedisRefused if the block cannot decode the reply.
    """
    try:
        yield
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise RedisRefused(f"unexpected data in Redis: cannot decode {what}") from error
