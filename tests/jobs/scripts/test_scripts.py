"""Compares the Redis scripts with their Python model under repeated and reordered calls.

Each call is made both in Redis and on the Python model.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.redis.pipe import Pipe
from tests.jobs.factories import (
    on_redis,
)
from tests.jobs.scripts.both import Both
from tests.jobs.scripts.model import (
    ENDS,
)

QUEUES = ["", "", "", "p:", "f:", "d:m", "f:m", "p:n"]
STEPS = [
    *["submit", "submit", "claim", "claim", "append", "append", "append", "finish", "retry"],
    *[
        "give_back",
        "begin_again",
        "extend",
        "cancel",
        "delete",
        "rescue",
        "compact",
        "compact",
        "time",
        "time",
        "again",
        "again",
        "again",
    ],
]


async def step(both: Both, draw: Callable[..., Any]) -> None:
    """Draws one step by a writer that is alive, dead or unaware that its lease has expired."""
    what = draw(st.sampled_from(STEPS))
    if what == "again":
        if both.calls:
            await both.again(draw(st.sampled_from(both.calls)))
        return
    if what == "submit":
        key = draw(st.sampled_from(["", "", "key"]))
        owner, body = draw(st.sampled_from("ab")), draw(st.sampled_from(["one", "one", "two"]))
        queue_name, first = draw(st.sampled_from(QUEUES)), draw(st.sampled_from([b"", b"begins"]))
        await both.make(both.submit(owner, key, body, draw(st.booleans()), queue_name, first))
        return
    if what == "claim":
        room = {"m": draw(st.integers(0, 2))} if draw(st.booleans()) else {}
        name = f"c{len(both.calls)}"
        await both.make(both.claim(name, draw(st.integers(1, 3)), only=draw(st.booleans()), **room))
        return
    if what == "rescue":
        await both.make(both.rescue(f"r{len(both.calls)}"))
        return
    if not both.ids:
        return
    id_ = draw(st.sampled_from(both.ids))
    length = len(both.model.all[id_].log) if id_ in both.model.all else 1
    length = max(0, length + draw(st.sampled_from([0, 0, 0, 0, -1, 1])))
    if what == "time":
        await both.time_passes(id_)
    elif what == "cancel":
        await both.make(both.cancel(id_, length))
    elif what == "delete":
        await both.make(both.delete(id_))
    elif what == "extend":
        held = draw(st.lists(st.sampled_from(both.holders), max_size=3)) if both.holders else []
        await both.make(both.extend(held))
    elif both.holders:
        id_, claim = draw(st.sampled_from(both.holders))
        length = len(both.model.all[id_].log) if id_ in both.model.all else length
        length = max(0, length + draw(st.sampled_from([0, 0, 0, 0, -1])))
        if what == "append":
            count, marked = draw(st.integers(0, 3)), draw(st.booleans())
            await both.make(both.append(id_, claim, length, count, marked=marked))
        elif what == "finish":
            await both.make(both.finish(id_, claim, length, draw(st.sampled_from(ENDS))))
        elif what == "compact":
            log = both.model.all[id_].log if id_ in both.model.all else [b"gone"]
            await both.make(both.compact(id_, claim, log[:length] or [b"none"]))
        elif what == "begin_again":
            attempt, keeps = draw(st.integers(1, 4)), draw(st.booleans())
            await both.make(both.begin_again(id_, claim, attempt, keeps=keeps))
        else:
            await both.make(both.put_back(what, id_, claim, keeps=draw(st.booleans())))


# The examples are divided into parts, so that each part stays far below the time limit of a test.
@pytest.mark.parametrize("part", range(6))
@on_redis(12)
@given(data=st.data())
async def test_scripts_agree_with_the_model_under_repeats_and_reorderings(
    pipe: Pipe, part: int, data: st.DataObject
) -> None:
    await pipe.call("FLUSHALL")
    both = Both(pipe)
    for _ in range(data.draw(st.integers(1, 40), label="steps")):
        await step(both, data.draw)
    await both.drain()
