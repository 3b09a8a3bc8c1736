"""Tests the checker with constructed runs: a correct one, and others with one violation each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableSequence
from copy import deepcopy

import pytest

from tests.chaos.checker import check
from tests.chaos.history import Call, Event, History, Job, TraceEntry
from tests.chaos.runs import (
    MINE,
    OTHER,
    correct_run,
    create,
    numbered,
    restarted_log,
    resume,
    trace,
)
from tests.jobs.factories import text_delta


def _events(history: History, client: int) -> MutableSequence[TraceEntry]:
    return history.traces[client].entries


def _change(history: History, client: int, index: int, **fields: object) -> None:
    lines = _events(history, client)
    lines[index] = lines[index]._replace(data={**lines[index].data, **fields})


# Each function breaks one promise in a correct run. The checker must find the violation.


def an_event_is_missing(history: History) -> None:
    del _events(history, 1)[4]


def an_event_is_repeated(history: History) -> None:
    lines = _events(history, 1)
    lines.insert(4, lines[4])


def two_events_are_swapped(history: History) -> None:
    lines = _events(history, 1)
    lines[4], lines[5] = lines[5], lines[4]


def a_resume_starts_too_early(history: History) -> None:
    lines = _events(history, 0)
    lines.insert(9, lines[6]._replace(socket=2))


def the_terminal_event_is_missing(history: History) -> None:
    del _events(history, 1)[-2]


def the_terminal_event_is_late(history: History) -> None:
    lines = _events(history, 1)
    lines[-2] = lines[-2]._replace(at=111)


def a_prompt_gets_no_answer(history: History) -> None:
    _events(history, 1)[1:-1] = []


def the_log_differs(history: History) -> None:
    history.logs[MINE][5] = text_delta("msg_1", 0, "c1t0 ")


def the_log_is_shorter(history: History) -> None:
    history.logs[MINE].pop(3)


def a_zombie_writes(history: History) -> None:
    """Makes the first attempt write after the second attempt has started.

    All clients receive the same events.
    """
    log = history.logs[OTHER]
    log.insert(12, text_delta("msg_1", 0, "c2t2 "))
    history.traces[1] = trace("two", (create("m2"), numbered(log)))


def two_calls_are_spliced(history: History) -> None:
    log = history.logs[OTHER]
    log[13] = text_delta("msg_2", 1, "c2t1 c2t2 ")
    history.traces[1] = trace("two", (create("m2"), numbered(log)))


def an_event_follows_the_terminal_event(history: History) -> None:
    log = history.logs[OTHER]
    log.append(log[-1])
    history.traces[1] = trace("two", (create("m2"), numbered(log)))


def a_log_has_no_end(history: History) -> None:
    history.logs[OTHER].pop()
    history.traces.pop(1)


def a_job_never_ends(history: History) -> None:
    history.jobs[OTHER] = Job("running", 2, "m2")


def a_token_is_lost(history: History) -> None:
    log = history.logs[OTHER]
    log[13] = text_delta("msg_2", 1, "c4t2 ")
    history.traces[1] = trace("two", (create("m2"), numbered(log)))


def a_partial_token_has_another_index(history: History) -> None:
    history.logs[OTHER] = restarted_log(OTHER, "m2", 2, 4, lost="c2t0 c2t2")
    history.traces[1] = trace("two", (create("m2"), numbered(history.logs[OTHER])))


def an_attempt_has_more_text_than_its_call(history: History) -> None:
    history.logs[OTHER] = restarted_log(OTHER, "m2", 2, 4, lost="c2t0 c2t1 c2t2 c2")
    history.traces[1] = trace("two", (create("m2"), numbered(history.logs[OTHER])))


def a_truncated_answer_is_completed(history: History) -> None:
    history.calls[3] = Call(4, "m2", 50)


def the_checksum_is_wrong(history: History) -> None:
    log = history.logs[OTHER]
    end = deepcopy(log[-1])
    end["response"]["holdline"]["sha256"] = hashlib.sha256(b"").hexdigest()
    log[-1] = end
    history.traces[1] = trace("two", (create("m2"), numbered(log)))


def an_extra_model_call(history: History) -> None:
    history.calls.append(Call(5, "m1", 3))


def a_key_creates_two_responses(history: History) -> None:
    third = "resp_000" + "c" * 32
    history.jobs[third] = Job("completed", 2, "m1")
    history.logs[third] = restarted_log(third, "m1", 1, 3)


def an_event_of_another_response(history: History) -> None:
    lines = _events(history, 1)
    line = lines[6]
    lines[6] = line._replace(data={**history.logs[MINE][5], "sequence_number": 5})


def text_of_another_response(history: History) -> None:
    history.calls[3] = Call(4, "m1", 3)


def an_unrequested_event(history: History) -> None:
    _change(history, 1, 6, stream_id="nobody's")


def a_response_is_gone(history: History) -> None:
    error = {"type": "error", "error": {"code": "response_gone"}, "response_id": OTHER}
    _events(history, 1)[-2:] = [TraceEntry(1, 1, "received", error)]


def a_pong_is_ahead(history: History) -> None:
    pong = {"type": "holdline:pong", "responses": {OTHER: 7}}
    _events(history, 1).insert(7, TraceEntry(1, 1, "received", pong))


BAD: list[tuple[Callable[[History], None], str]] = [
    (an_event_is_missing, "I5"),
    (an_event_is_repeated, "I5"),
    (two_events_are_swapped, "I5"),
    (a_resume_starts_too_early, "I5"),
    (the_terminal_event_is_missing, "I4"),
    (the_terminal_event_is_late, "I4"),
    (a_prompt_gets_no_answer, "I4"),
    (the_log_differs, "I1"),
    (the_log_is_shorter, "I1"),
    (a_zombie_writes, "I2"),
    (two_calls_are_spliced, "I2"),
    (an_event_follows_the_terminal_event, "I3"),
    (a_log_has_no_end, "I3"),
    (a_job_never_ends, "I4"),
    (a_token_is_lost, "I1"),
    (a_partial_token_has_another_index, "I1"),
    (an_attempt_has_more_text_than_its_call, "I1"),
    (a_truncated_answer_is_completed, "G7"),
    (the_checksum_is_wrong, "I5"),
    (an_extra_model_call, "I6"),
    (a_key_creates_two_responses, "I6"),
    (an_event_of_another_response, "I1"),
    (text_of_another_response, "I7"),
    (an_unrequested_event, "I7"),
    (a_response_is_gone, "I10"),
    (a_pong_is_ahead, "I5"),
]


def test_a_correct_run_has_no_violation() -> None:
    verdict = check(correct_run())
    assert [] == verdict.violations
    assert 2 == verdict.counts["answers"]
    assert 2 == verdict.counts["restarts"]
    assert 2 == verdict.counts["resumes"]


@pytest.mark.parametrize(("spoil", "invariant"), BAD, ids=[bad.__name__ for bad, _ in BAD])
def test_the_checker_detects_each_violation(
    spoil: Callable[[History], None], invariant: str
) -> None:
    history = correct_run()
    spoil(history)
    assert invariant in {violation.invariant for violation in check(history).violations}


def test_the_text_of_a_lost_attempt_may_end_within_a_token() -> None:
    assert [] == check(correct_run(lost="c2t0 c2")).violations


def _already_ended(number: int) -> Event:
    return {"type": "holdline:ended", "response_id": MINE, "sequence_number": number}


def test_a_resume_after_the_last_event_may_only_be_told_that_nothing_is_left() -> None:
    history = correct_run()
    last = len(history.logs[MINE]) - 1
    history.traces.append(trace("again", (resume(MINE, last), [_already_ended(last)])))
    assert [] == check(history).violations
    history.traces.append(trace("early", (resume(MINE, 5), [_already_ended(last)])))
    assert "I5" in {violation.invariant for violation in check(history).violations}


def test_a_violation_report_shows_the_log_and_the_trace() -> None:
    history = correct_run()
    an_event_is_missing(history)
    report = str(check(history).violations[0])
    assert OTHER in report
    assert "log " in report
    assert "two/1 " in report


def test_a_response_that_its_client_deleted_may_be_gone() -> None:
    history = correct_run()
    a_response_is_gone(history)
    _events(history, 1).append(TraceEntry(1, 1, "sent", {"type": "delete", "response_id": OTHER}))
    del history.jobs[OTHER], history.logs[OTHER]
    assert [] == check(history).violations


def test_lost_data_must_be_reported_and_never_spliced() -> None:
    history = correct_run()
    history.loss = True
    a_response_is_gone(history)
    del history.jobs[OTHER], history.logs[OTHER]
    assert [] == check(history).violations
    history.traces[1].entries.pop()
    assert ["I4"] == [violation.invariant for violation in check(history).violations]
    splice_two_calls_for_the_client(history)
    assert "I2" in {violation.invariant for violation in check(history).violations}


def splice_two_calls_for_the_client(history: History) -> None:
    log = restarted_log(OTHER, "m2", 2, 4)
    log[13] = text_delta("msg_2", 1, "c2t1 c2t2 ")
    history.traces[1] = trace("two", (create("m2"), numbered(log)))
