"""Tests batching, replies, cancellation and errors of a pipe over a working connection."""

from __future__ import annotations

import asyncio
import os

from jobs.errors import RedisRefused
from jobs.redis.pipe import Pipe
from tests.jobs.proxy import Proxy
from tests.system import wait_until


async def test_commands_of_one_loop_iteration_are_sent_in_one_write(
    proxy: Proxy, through: Pipe
) -> None:
    before = len(proxy.requests)

    replies = await asyncio.gather(*(through.call("ECHO", f"{n}") for n in range(50)))

    assert [b"%d" % n for n in range(50)] == list(replies)
    assert 1 == len(proxy.requests) - before


async def test_commands_of_different_loop_iterations_do_not_wait_for_each_other(
    proxy: Proxy, through: Pipe
) -> None:
    proxy.stop_forwarding()
    first = asyncio.create_task(through.call("ECHO", "first"))
    await wait_until(lambda: b"first" in b"".join(proxy.requests))
    second = asyncio.create_task(through.call("ECHO", "second"))
    proxy.forward_again()

    assert [b"first", b"second"] == [await first, await second]


async def test_large_arguments_and_replies_arrive_whole(pipe: Pipe) -> None:
    large = os.urandom(3_000_000)

    replies = await asyncio.gather(pipe.call("ECHO", large), pipe.call("ECHO", "small"))

    assert [large, b"small"] == list(replies)


async def test_the_reply_of_a_cancelled_caller_is_discarded(proxy: Proxy, through: Pipe) -> None:
    for pause in range(4):
        proxy.stop_forwarding()
        cancelled = [asyncio.create_task(through.call("ECHO", "lost")) for _ in range(5)]
        # Cancel before, while and after the commands are sent.
        for _ in range(pause):
            await asyncio.sleep(0)
        kept = asyncio.create_task(through.call("ECHO", "kept"))
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        proxy.forward_again()

        assert b"kept" == await kept
        assert b"next" == await through.call("ECHO", "next")


async def test_an_error_is_raised_only_in_its_own_caller(pipe: Pipe) -> None:
    replies = await asyncio.gather(
        pipe.call("ECHO", "a"),
        pipe.call("NO SUCH COMMAND"),
        pipe.call("ECHO", "b"),
        return_exceptions=True,
    )

    assert isinstance(replies[1], RedisRefused)
    assert [b"a", b"b"] == [replies[0], replies[2]]
