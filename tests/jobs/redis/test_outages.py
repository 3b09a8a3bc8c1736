"""Tests a pipe over lost, stalled or slow connections, and with a Redis that lost its scripts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from command.up.redis import embedded_redis_sync
from jobs.errors import RedisAway
from jobs.redis.connection import Redis
from jobs.redis.pipe import WATCH_SECONDS, Pipe
from jobs.redis.wire import Wire
from jobs.scripts import SCRIPTS
from tests.jobs.factories import queue_positions
from tests.jobs.proxy import Proxy
from tests.system import wait_until


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Starts a Redis that the test may suspend and kill; yields its URL and process id."""
    with embedded_redis_sync(None, "--pidfile", str(tmp_path / "pid")) as url:
        yield url, int((tmp_path / "pid").read_text())


async def answers(pipe: Pipe) -> None:
    """Returns when Redis replies. On a busy machine, this may take longer than a short deadline."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(RedisAway):
                await pipe.call("PING")
                return


async def test_pending_commands_fail_when_the_connection_is_lost(
    proxy: Proxy, through: Pipe
) -> None:
    proxy.drop_next_reply()

    with pytest.raises(RedisAway):
        await through.call("INCR", "holdline:counter")

    # The first command was executed, although its reply was lost.
    assert 2 == await through.call("INCR", "holdline:counter")
    await through.call("DEL", "holdline:counter")


async def test_a_script_is_repeated_on_the_next_connection(proxy: Proxy, through: Pipe) -> None:
    proxy.drop_next_reply()

    assert [b""] == await queue_positions(through)
    assert 2 == proxy.accepted


async def test_scripts_are_repeated_until_they_succeed_on_a_failing_network(
    proxy: Proxy, through: Pipe
) -> None:
    async def break_again() -> None:
        for _ in range(5):
            # Count the connections that the proxy accepts, because the pipe may reconnect before
            # polling detects the loss.
            await wait_until(lambda: through.connected)
            seen = proxy.accepted
            proxy.reset()
            await wait_until(lambda seen=seen: proxy.accepted > seen)  # type: ignore[misc]

    breaking = asyncio.create_task(break_again())
    for _ in range(10):
        assert [b""] == await queue_positions(through)
    await breaking

    assert [b""] == await queue_positions(through)


async def test_replies_reach_their_own_callers_across_lost_connections(
    proxy: Proxy, through: Pipe
) -> None:
    wrong = []

    async def ask(number: int) -> None:
        for turn in range(20):
            said = b"%d/%d" % (number, turn)
            try:
                heard = await through.call("ECHO", said)
            except RedisAway:
                continue
            if heard != said:
                wrong.append((said, heard))

    async def break_again() -> None:
        for _ in range(5):
            # Count the connections that the proxy accepts, because the pipe may reconnect before
            # polling detects the loss.
            await wait_until(lambda: through.connected)
            seen = proxy.accepted
            proxy.reset()
            await wait_until(lambda seen=seen: proxy.accepted > seen)  # type: ignore[misc]

    await asyncio.gather(break_again(), *(ask(number) for number in range(20)))

    assert [] == wrong


class ClosedAtOnce(Redis):
    """A Redis whose first connections close at once, as a starting Redis behind a proxy does."""

    times = 3

    async def open(self) -> Wire:
        wire = await super().open()
        if self.times:
            self.times -= 1
            wire.reader.feed_eof()
        return wire


async def test_a_connection_closed_right_after_opening_shifts_no_reply(
    redis_url: str,
) -> None:
    async with Pipe(ClosedAtOnce(redis_url)) as pipe:
        asked = [asyncio.create_task(pipe.call("ECHO", f"{n}")) for n in range(10)]
        answers = await asyncio.gather(*asked, return_exceptions=True)

        for n, answer in enumerate(answers):
            assert isinstance(answer, RedisAway) or answer == b"%d" % n
        assert b"after" == await pipe.call("ECHO", "after")


async def test_a_connection_that_redis_closes_at_once_is_retried(proxy: Proxy) -> None:
    proxy.refuse = 3
    async with Pipe(Redis(proxy.url)) as pipe:
        assert [b""] == await queue_positions(pipe)
    assert 4 == proxy.accepted


async def test_an_invalid_reply_closes_only_the_connection(proxy: Proxy, through: Pipe) -> None:
    proxy.instead = b"HTTP/1.1 400 Bad Request\r\n\r\n"
    with pytest.raises(RedisAway):
        await through.call("PING")

    assert b"after" == await through.call("ECHO", "after")


async def test_an_unexpected_reply_closes_only_the_connection(proxy: Proxy, through: Pipe) -> None:
    proxy.instead = b"+PONG\r\n+PONG\r\n"
    await through.call("PING")

    await wait_until(lambda: proxy.accepted == 2)
    assert b"after" == await through.call("ECHO", "after")


async def test_scripts_missing_from_redis_are_loaded_again(pipe: Pipe) -> None:
    await pipe.call("SCRIPT", "FLUSH")

    assert [b""] == await queue_positions(pipe)
    assert [1] == await pipe.call("SCRIPT", "EXISTS", SCRIPTS["queue_positions"].sha)


async def test_a_missing_script_is_repeated_after_a_lost_connection(
    pipe: Pipe, proxy: Proxy, through: Pipe
) -> None:
    await pipe.call("SCRIPT", "FLUSH")
    proxy.drop_reply_after(b"NOSCRIPT")

    assert [b""] == await queue_positions(through)
    assert 2 == proxy.accepted


async def test_a_suspended_redis_is_detected_within_the_deadline_and_used_again_when_it_resumes(
    own: tuple[str, int],
) -> None:
    url, pid = own
    async with Pipe(Redis(url), deadline=0.6) as pipe:
        await pipe.call("PING")
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            with pytest.raises(RedisAway):
                await pipe.call("PING")
            assert time.monotonic() - began < 0.6 + 2 * WATCH_SECONDS + 0.5
        finally:
            os.kill(pid, signal.SIGCONT)

        await wait_until(lambda: pipe.connected)
        assert b"after" == await pipe.call("ECHO", "after")


async def test_a_half_open_connection_is_detected_and_replaced(proxy: Proxy) -> None:
    async with Pipe(Redis(proxy.url), deadline=0.6) as pipe:
        await answers(pipe)
        proxy.stop_forwarding()
        with pytest.raises(RedisAway):
            await pipe.call("PING")
        proxy.forward_again()

        await answers(pipe)
        assert 1 < proxy.accepted


async def test_a_slow_connection_is_not_closed(proxy: Proxy, through: Pipe) -> None:
    proxy.delay = 0.05
    assert [b"x"] * 3 == [await through.call("ECHO", "x") for _ in range(3)]
    proxy.delay, proxy.bytes_per_second = 0, 400_000

    assert b"x" * 100_000 == await through.call("ECHO", b"x" * 100_000)
    assert 1 == proxy.accepted


async def test_a_command_fails_at_its_deadline_if_redis_is_down(tmp_path: Path) -> None:
    began = time.monotonic()
    async with Pipe(Redis(f"unix://{tmp_path}/nobody.sock"), deadline=0.4) as pipe:
        with pytest.raises(RedisAway, match="no connection"):
            await pipe.call("PING")
        with pytest.raises(RedisAway):
            await queue_positions(pipe)

    assert 0.7 < time.monotonic() - began < 3


async def test_a_restarted_redis_is_used_again(own: tuple[str, int], tmp_path: Path) -> None:
    url, pid = own
    async with Proxy(url, tmp_path) as proxy, Pipe(Redis(proxy.url), deadline=0.5) as pipe:
        await answers(pipe)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RedisAway):
            await pipe.call("PING")
        with embedded_redis_sync() as another:
            proxy.move(another)
            await answers(pipe)


async def test_an_idle_connection_that_redis_closes_causes_no_error(
    pipe: Pipe, redis: Redis
) -> None:
    async with Pipe(redis) as idle:
        await idle.call("PING")
        mine = await pipe.call("CLIENT", "ID")
        theirs = await idle.call("CLIENT", "ID")
        assert mine != theirs
        first = idle._wire
        await pipe.call("CLIENT", "KILL", "ID", theirs)
        await wait_until(lambda: idle._wire is not first)  # the pipe may have reconnected already

        assert b"after" == await idle.call("ECHO", "after")


@pytest.mark.parametrize("turns", range(12))
async def test_a_pipe_can_be_closed_at_any_step_of_losing_its_connection(
    redis_url: str, turns: int
) -> None:
    async with Proxy(redis_url) as proxy:
        began = time.monotonic()
        async with asyncio.timeout(3), Pipe(Redis(proxy.url)) as pipe:
            await pipe.call("PING")
            assert pipe._wire is not None
            pipe._wire.close()
            for _ in range(turns):
                await asyncio.sleep(0)

        assert time.monotonic() - began < 2


async def test_pending_commands_fail_when_the_pipe_is_closed(proxy: Proxy) -> None:
    async with Pipe(Redis(proxy.url)) as pipe:
        await pipe.call("PING")
        proxy.stop_forwarding()
        asked = asyncio.create_task(pipe.call("PING"))
        await asyncio.sleep(0)

    with pytest.raises(RedisAway):
        await asked
