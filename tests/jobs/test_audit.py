"""Tests that the audit log is bounded, and that each change has one entry with its result."""

from __future__ import annotations

import pytest

from jobs import audit
from jobs.audit import MAX_VALUE, AuditLog, Change
from jobs.names import Partition
from jobs.redis.pipe import Pipe

KEY = Partition(0).audit
HOUR = 3_600_000


async def changes(pipe: Pipe, since_ms: int = 0) -> list[Change]:
    return [each async for each in AuditLog(pipe, HOUR).changes(since_ms)]


async def begin(pipe: Pipe, change: str) -> None:
    await AuditLog(pipe, HOUR).append({"change": change, "target": change, "after": "planned"})


async def end(pipe: Pipe, change: str) -> None:
    await AuditLog(pipe, HOUR).append({"change": change, "after": "made", "result": "done"})


async def test_each_result_belongs_to_its_change_even_if_two_changes_overlap(pipe: Pipe) -> None:
    await begin(pipe, "a")
    await begin(pipe, "b")
    await end(pipe, "b")
    await begin(pipe, "c")
    await end(pipe, "a")
    found = [(each.target, each.after, each.result) for each in await changes(pipe)]
    assert [("a", "made", "done"), ("b", "made", "done"), ("c", "planned", "")] == found


async def test_a_long_log_is_read_in_pages(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 3)
    for number in range(5):
        await begin(pipe, str(number))
        await end(pipe, str(number))
    found = await changes(pipe)
    assert ["0", "1", "2", "3", "4"] == [each.target for each in found]
    assert {"done"} == {each.result for each in found}


async def test_a_result_whose_change_began_earlier_is_left_out(pipe: Pipe) -> None:
    await pipe.call("XADD", KEY, "1000-1", "change", "a", "target", "a")
    await pipe.call("XADD", KEY, "3000-1", "change", "a", "result", "done")
    await pipe.call("XADD", KEY, "4000-1", "change", "b", "target", "b")
    await pipe.call("PEXPIRE", KEY, HOUR)
    assert ["b"] == [each.target for each in await changes(pipe, 2000)]
    assert [1000, 4000] == [each.time for each in await changes(pipe)]


async def test_the_log_is_limited_in_length_and_time(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_ENTRIES", 3)
    now = await AuditLog(pipe, HOUR).now_ms()
    await pipe.call("XADD", KEY, f"{now - HOUR - 1000}-1", "change", "old", "target", "old")
    await pipe.call("XADD", KEY, f"{now - HOUR + 60_000}-1", "change", "new", "target", "new")
    await begin(pipe, "a")
    assert ["new", "a"] == [each.target for each in await changes(pipe)]
    assert HOUR - 60_000 < await pipe.call("PTTL", KEY) <= HOUR
    for change in "bcd":
        await begin(pipe, change)
    assert ["b", "c", "d"] == [each.target for each in await changes(pipe)]


async def test_a_long_value_is_shortened(pipe: Pipe) -> None:
    await AuditLog(pipe, HOUR).append({"change": "a", "target": "x" * 10_000})
    [found] = await changes(pipe)
    assert MAX_VALUE == len(found.target)
    assert found.target.endswith("x…")
