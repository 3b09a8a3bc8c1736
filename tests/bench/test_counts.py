"""Tests limits on counts that do not depend on the machine, and gives each limit's reason.

If a count exceeds its limit, an operation has become more expensive for every user. Raise the
limit only if the benefit is worth the cost, and document why. Lower the limit when a count has
fallen.
"""

from __future__ import annotations

from functools import partial

import pytest

from bench.answers import a_delta, a_job, last_event
from bench.background import all_completed, in_background
from bench.client import dismiss
from bench.client_pool import ClientPool, ask_all
from bench.rig import Rig
from jobs.log.codec import encode_event, encode_job
from jobs.log.log import read_all
from server.api.frames import frame

JOBS = 100


async def test_the_redis_commands_per_job_are_bounded() -> None:
    """Submitting, claiming and finishing a job use about 50 Redis commands.

    Each of the three scripts reads and writes the job record once. Five commands maintain the
    bounded total of bytes in unfinished prompts. Five keep the ages of waiting jobs and the numbers
    of the tenants' jobs, so that an overview of the queue need not read the jobs. The claim's
    commands include the append of the attempt's first event. In this test, one claim returns a
    hundred jobs and reads their tenant's limits once.
    """
    async with Rig() as rig:
        noop = rig.ours("noop")
        # The first run loads the scripts, so it is not counted.
        await noop.ask(f"fill {JOBS}")
        await noop.ask(f"drain {JOBS}")
        await rig.forget_commands()
        await noop.ask(f"fill {JOBS}")
        await noop.ask(f"drain {JOBS}")
        assert 53 > await rig.commands() / JOBS


async def test_the_redis_commands_of_a_single_job_are_bounded() -> None:
    """A single job uses 83 commands, including the three script calls themselves.

    In this test, no other job has created the keys that the job needs or read its tenant's limits,
    and its keys are deleted when it ends. Three commands add the queue to the list of queues and
    remove it again. They save an idle worker a claim in vain, which takes more commands.
    """
    async with Rig() as rig:
        noop = rig.ours("noop")
        for _ in range(2):
            await rig.forget_commands()
            for _ in range(10):
                await noop.ask("fill 1")
                await noop.ask("drain 1")
        assert 85 > await rig.commands() / 10


async def test_a_backlog_does_not_add_redis_commands_per_job() -> None:
    """The cost per job does not grow with the backlog.

    The costs may differ by a tenth, because claims may return different numbers of jobs.
    """
    async with Rig() as rig:
        noop = rig.ours("noop")
        counts = []
        for backlog in (0, 2_000):
            await noop.ask(f"fill {backlog}")
            await rig.forget_commands()
            await noop.ask(f"fill {JOBS}")
            await noop.ask(f"drain {JOBS}")
            counts.append(await rig.commands() / JOBS)
        assert counts[0] * 1.1 > counts[1]


async def test_a_long_fast_answer_is_stored_in_few_log_entries() -> None:
    """Tokens that arrive during an append become one delta; nine events start and end the answer.

    On a busy machine, an answer may need more appends. The limit of twenty deltas is still far
    below one delta per token.
    """
    async with Rig() as rig:
        model, url = await rig.model()
        _, port = await rig.server()
        await rig.worker(url)
        (id_,) = ids = await in_background(port, 1, "tokens=500")
        await all_completed(rig, ids)
        assert 30 > (await read_all(rig.control, id_)).length
        assert model.popen.poll() is None


async def test_the_script_calls_per_answer_are_bounded() -> None:
    """An answer needs about five script calls; 5.1 were measured.

    They are the submission, the server's read of the response, the claim, the append of the rest of
    the answer with its end, and the compaction. A lease renewal adds a call, and so does model
    output that arrives in two reads.
    """
    answers = 20
    async with Rig() as rig:
        _, url = await rig.model()
        _, port = await rig.server()
        await rig.worker(url)
        await all_completed(rig, await in_background(port, 1, "tokens=50"))
        await rig.forget_commands()
        for _ in range(answers):
            await all_completed(rig, await in_background(port, 1, "tokens=50"))
        assert 6.4 > await rig.scripts() / answers


async def test_an_answer_over_a_socket_needs_no_read_script() -> None:
    """An answer needs about four script calls, because the first events are pushed.

    The measured number is 4.0. The calls are the submission, the claim, the append of the rest of
    the answer with its end, and the compaction. A lease renewal adds a call, and so does model
    output that arrives in two reads.
    """
    answers = 20
    async with Rig() as rig:
        _, url = await rig.model()
        _, port = await rig.server()
        await rig.worker(url)
        pool = ClientPool()
        await pool.connect(port, range(1))
        await ask_all(pool, "tokens=50")
        await rig.forget_commands()
        for _ in range(answers):
            await ask_all(pool, "tokens=50")
        assert 5.4 > await rig.scripts() / answers
        await dismiss(pool.clients)


@pytest.mark.parametrize(
    ("what", "most"),
    [
        # An entry consists of a type code, an item id of 43 characters, two small integers and the
        # text.
        (lambda: a_delta(a_job().id, "tok42 "), 64),
        # Most of an event is the standard's field names, on which every client relies.
        (lambda: frame(1000, a_delta(a_job().id, "tok42 ")).json, 240),
        # The complete response object, with all fields required by the standard.
        (lambda: encode_event(last_event(a_job())), 900),
        (partial(encode_job, a_job()), 120),
    ],
    ids=["delta entry", "delta event", "end entry", "job"],
)
def test_stored_and_sent_data_stay_small(what: partial[bytes], most: int) -> None:
    size = len(what())
    assert most > size > most / 2
