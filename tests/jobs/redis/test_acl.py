"""Tests that the documented permissions of a Redis user suffice for jobs and notifications."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from jobs.notifications import subscriber
from jobs.queue import Queue
from jobs.redis.connection import Redis
from jobs.redis.pipe import Pipe
from tests.jobs.factories import NAMES, SETTINGS, new_claim, submitted
from tests.jobs.redis.users import as_user
from tests.paths.documents import SECURE, section
from tests.system import wait_until


@pytest.fixture
async def limited(redis_url: str, pipe: Pipe) -> AsyncIterator[Redis]:
    """Connects to Redis as a user that has only the documented permissions."""
    listed, others, *_ = section(SECURE, "Access to Redis").strip().split("\n\n")
    names = re.findall(r"`([a-z|]+)`", listed + others)
    patterns = ("resetkeys", "~holdline:*", "resetchannels", "&holdline:*")
    commands = (f"+{name}" for name in names)
    await pipe.call("ACL", "SETUSER", "limited", "on", ">pass", *patterns, "-@all", *commands)
    await pipe.call("ACL", "LOG", "RESET")
    yield Redis(as_user(redis_url, "limited:pass"))
    await pipe.call("ACL", "DELUSER", "limited")


async def test_the_documented_permissions_suffice_for_notifications(
    limited: Redis, pipe: Pipe
) -> None:
    woken, followed, appended = asyncio.Event(), asyncio.Event(), asyncio.Event()
    async with Pipe(limited) as own, subscriber(limited, own, range(1)) as notifications:
        notifications.subscribe(NAMES.wake("w"), lambda _: woken.set(), lambda: None)
        await wait_until(lambda: notifications.healthy)
        queue = Queue(own, SETTINGS)
        assert [] == await queue.leases.claim(0, new_claim(), 1, worker="w")
        job = await submitted(queue)
        await woken.wait()
        channel = NAMES.notifications(job.id)
        notifications.subscribe(channel, lambda _: appended.set(), followed.set)
        await followed.wait()
        await queue.cancel(job.id, 2, [])
        await appended.wait()
        notifications.unsubscribe(channel)
        assert await queue.leases.has_work(0)
    assert [] == await pipe.call("ACL", "LOG")
