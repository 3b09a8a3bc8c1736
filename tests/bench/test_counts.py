"""What does not depend on the machine is held by counting: a bound beside its reason.

A bound that breaks says that something became dearer for everybody. Raise it where that is worth
what it buys, and say so; lower it when a count has fallen.
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


async def test_a_job_takes_few_commands_of_redis() -> None:
    """Submit, claim and finish: 19, 8 and 19 commands in three scripts, which read a record once
    and write it once. Six of them keep the bytes of unfinished prompts, which are bounded. The
    first event of the attempt is one of the claim's commands. A claim hands out a hundred jobs
    here, and reads the limits of their tenant once.
    """
    async with Rig() as rig:
        noop = rig.ours("noop")
        await noop.ask(f"fill {JOBS}")  # loads the scripts
        await noop.ask(f"drain {JOBS}")
        await rig.forget_commands()
        await noop.ask(f"fill {JOBS}")
        await noop.ask(f"drain {JOBS}")
        assert 49 > await rig.commands() / JOBS


async def test_a_job_that_comes_alone_takes_few_commands_of_redis() -> None:
    """No other job has made the keys that it needs or read the limits of its tenant, and its keys
    are deleted when it ends: 75 commands, with the three scripts themselves.
    """
    async with Rig() as rig:
        noop = rig.ours("noop")
        for _ in range(2):
            await rig.forget_commands()
            for _ in range(10):
                await noop.ask("fill 1")
                await noop.ask("drain 1")
        assert 77 > await rig.commands() / 10


async def test_a_backlog_adds_no_command_to_a_job() -> None:
    """Nothing is linear in what waits. A tenth is what the turns of a claim may differ by."""
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


async def test_a_long_answer_that_is_said_at_once_is_few_entries() -> None:
    """What gathers while an append is under way is one delta; what begins and ends an answer is
    nine events. A busy machine gathers in more pieces: twenty are far from one a token.
    """
    async with Rig() as rig:
        model, url = await rig.model()
        _, port = await rig.server()
        await rig.worker(url)
        (id_,) = ids = await in_background(port, 1, "tokens=500")
        await all_completed(rig, ids)
        assert 30 > (await read_all(rig.control, id_)).length
        assert model.popen.poll() is None


async def test_an_answer_takes_few_scripts() -> None:
    """Submit, and the server's look at what it hands out; claim, the rest of the answer with its
    end, the compaction. Leases and a model whose bytes come in two reads add to that: measured 5.1.
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


async def test_an_answer_over_a_socket_takes_no_read() -> None:
    """Submit, claim, the rest of the answer with its end, compaction. The beginning is pushed.
    Leases and a model whose bytes come in two reads add to that: measured 4.0.
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
        # A code, the item's id of 43 characters, two small numbers, the text.
        (lambda: a_delta(a_job().id, "tok42 "), 64),
        # The standard's field names, on which every client relies, are the most of it.
        (lambda: frame(1000, a_delta(a_job().id, "tok42 ")).json, 240),
        # The whole response object with every field that the standard requires.
        (lambda: encode_event(last_event(a_job())), 900),
        (partial(encode_job, a_job()), 120),
    ],
    ids=["entry of a delta", "event of a delta", "entry of an end", "job"],
)
def test_what_is_stored_and_sent_is_small(what: partial[bytes], most: int) -> None:
    size = len(what())
    assert most > size > most / 2
