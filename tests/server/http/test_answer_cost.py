"""The cost of a streamed answer is bounded by counts, which are exact, unlike times.

A failure means that each answer became more expensive. Raise a bound only if the benefit is worth
the cost, and explain why; lower it when a count has fallen.
"""

from __future__ import annotations

from server.app import Server
from tests.costs import calls_of, costs, fewest, without_loops
from tests.server.factories import Worker
from tests.server.http.steps import ALL, Client, events_of
from tests.system import wait_until


async def streamed(client: Client, worker: Worker, server: Server) -> None:
    """Requests a stream. The worker ends it in one append, after the client has the first events.

    The worker in the test has claimed the job before, so the stream has three parts.
    """
    async with client.post(ALL, json={"input": "Why?", "stream": True}) as response:
        answer = await worker.take()
        await response.content.readuntil(b"response.in_progress")
        await answer.complete()
        _, done = await events_of(response)
        assert done
    await wait_until(lambda: not server.relay.followed)


async def test_a_streamed_answer_costs_one_task_two_timers_and_a_write_per_part(
    client: Client, worker: Worker, server: Server
) -> None:
    async def measured() -> tuple[int, int, int]:
        with costs() as found:
            await streamed(client, worker, server)
        tasks, timers = found.tasks, without_loops(found.timers)
        return tasks.total(), timers.total(), found.responses

    tasks, timers, writes = await fewest(measured)

    assert 1 == tasks  # the read of the log, which a notification usually replaces
    assert 1 <= timers <= 2  # the wait for the first events, and one for all later waits
    assert 3 == writes


async def test_a_streamed_answer_costs_a_bounded_number_of_function_calls(
    client: Client, worker: Worker, server: Server
) -> None:
    """The functions of `jobs` do not count, because the test's worker calls them too."""

    async def measured() -> tuple[int]:
        with calls_of("server") as calls:
            await streamed(client, worker, server)
        return (calls.total(),)

    [calls] = await fewest(measured)

    assert 200 < calls <= 310
