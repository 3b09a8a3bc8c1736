"""Runs the suite against the small server of torture/broken, and against each of its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from torture.broken.faults import Fault
from torture.result import Report, Verdict
from torture.runner import Runner, plan
from torture.target import load, with_time_factor

pytestmark = pytest.mark.checkout

TARGET: Final = Path(__file__).parent.parent.parent / "torture" / "broken" / "target.toml"
# The case that must find each fault.
FOUND_BY: Final = {
    Fault.READ_THEN_SUBSCRIBE: "stream.complete",
    Fault.SLOW_READER_DROPS: "stream.slow_reader",
    Fault.REORDERED: "stream.complete",
    Fault.UNNUMBERED: "stream.numbered",
    Fault.RESUME_SKIPS: "resume.every_event",
    Fault.RESUME_REPEATS: "resume.every_event",
    Fault.RESUME_FROM_START: "resume.every_event",
    Fault.LOCAL_STREAMS: "resume.other_server",
    Fault.NO_FENCE: "stream.complete",
    Fault.DOUBLE_CLAIM: "stream.complete",
    Fault.NO_LEASE: "kill.truthful.poll",
    Fault.LOST_TAIL: "restart.worker.stream",
    Fault.COMPLETED_AFTER_CUT: "truncation.cut.stream",
    Fault.ERROR_HIDDEN: "provider.unavailable.poll",
    Fault.DUPLICATE_SUBMIT: "duplicate.later",
    Fault.CANCEL_LEAVES_CALL: "cancel.closes_call",
    Fault.CANCELLED_THEN_COMPLETED: "cancel.stays",
    Fault.DIES_WITH_CLIENT: "vanish.stream",
    Fault.CHAIN_FORGETS: "chain.context",
    Fault.LOST_TURN: "conversation.two_writers",
}
# In the gate, a fault of each part: the log, the worker, and the wire.
IN_GATE: Final = (Fault.REORDERED, Fault.NO_FENCE, Fault.DUPLICATE_SUBMIT)
CLEAN_IN_GATE: Final = sorted({FOUND_BY[fault] for fault in IN_GATE} | {"resume.every_event"})


async def torture(folder: Path, fault: str, seed: int, *cases: str) -> Report:
    # The processes of the target share the cores with other tests.
    target = with_time_factor(load(TARGET, {"fault": fault}), 2)
    return await Runner(target, seed, folder).run(plan(target, cases))


def reasons(report: Report) -> dict[str, str]:
    return {result.case.id: result.reason for result in report.failed}


def test_each_fault_has_a_case() -> None:
    assert set(Fault) == set(FOUND_BY)


@pytest.mark.timeout(120)
async def test_the_clean_server_passes(tmp_path: Path) -> None:
    report = await torture(tmp_path, "none", 1, *CLEAN_IN_GATE)
    assert {} == reasons(report)
    assert {Verdict.PASSED} == {result.verdict for result in report.results}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", IN_GATE)
async def test_a_fault_is_found(tmp_path: Path, fault: Fault) -> None:
    report = await torture(tmp_path, fault, 1, FOUND_BY[fault])
    assert [FOUND_BY[fault]] == [*reasons(report)]
    assert Verdict.FAILED == report.results[0].verdict


@pytest.mark.timeout(120)
async def test_without_numbers_only_the_claims_about_numbers_fail(tmp_path: Path) -> None:
    cases = ("stream.complete", "stream.numbered", "vanish.early", "resume.reload", "resume.many")
    report = await torture(tmp_path, Fault.UNNUMBERED, 1, *cases)
    found = reasons(report)
    assert ["resume.many", "resume.reload", "stream.numbered"] == sorted(found)
    assert "response.created has no sequence_number" in found["stream.numbered"]
    assert "has no sequence_number, so the stream cannot be resumed" in found["resume.reload"]
    assert {Verdict.FAILED} == {result.verdict for result in report.failed}


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [1, 2])
async def test_the_clean_server_passes_all_claimed_cases(tmp_path: Path, seed: int) -> None:
    report = await torture(tmp_path, "none", seed)
    assert {} == reasons(report)
    assert 100 < sum(result.verdict == Verdict.PASSED for result in report.results)


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fault", Fault)
async def test_each_fault_is_found_with_each_seed(tmp_path: Path, fault: Fault, seed: int) -> None:
    report = await torture(tmp_path, fault, seed, FOUND_BY[fault])
    assert Verdict.FAILED == report.results[0].verdict, report.results[0].reason
