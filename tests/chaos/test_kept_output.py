"""Tests how the checker judges continued answers, and endpoints that continue them wrongly."""

from __future__ import annotations

from tests.chaos.checker import check
from tests.chaos.history import Call, Job
from tests.chaos.runs import MINE, continued_run, correct_run
from tests.jobs.factories import text_delta


def test_an_attempt_may_continue_a_text_only_at_its_end() -> None:
    assert [] == check(continued_run()).violations
    assert {"I5"} == {violation.invariant for violation in check(continued_run(8)).violations}


def test_a_profile_that_keeps_output_neither_loses_nor_repeats_it() -> None:
    history = correct_run()
    history.keeps_output = True
    assert {"G5"} == {violation.invariant for violation in check(history).violations}
    history = continued_run()
    history.calls[1] = Call(2, "m1", 3, 2)
    (violation,) = check(history).violations
    assert ("G5", "4 tokens generated for 3 delivered") == (violation.invariant, violation.says)
    history = continued_run()
    history.jobs[MINE] = Job("failed", 2, "m1")
    assert "G5" in {violation.invariant for violation in check(history).violations}


def test_an_answer_with_the_text_of_a_rude_endpoint_is_never_completed() -> None:
    history = correct_run(lost="c2t0 x2t1 ")
    assert {"I1"} == {violation.invariant for violation in check(history).violations}
    history.rude = True
    assert [] == check(history).violations
    log = history.logs[MINE]
    log[13] = text_delta("msg_2", 1, "c3t1 x3t2 ")
    assert {"I1"} <= {violation.invariant for violation in check(history).violations}
