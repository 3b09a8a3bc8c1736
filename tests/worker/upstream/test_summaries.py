"""Tests when a conversation is compacted, and which items a summary replaces."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.record import Job
from jobs.summary import message
from worker.upstream import summaries

TEXT = "word " * 1000  # about 1250 tokens


def said(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def call(text: str) -> list[dict[str, Any]]:
    return [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": text},
    ]


RULES, OLD, NEW = said("system", "Be brief."), said("user", TEXT), said("user", "Go on.")


def a_job(items: list[dict[str, Any]], *thresholds: int) -> Job:
    limits = [{"type": "compaction", "compact_threshold": one} for one in thresholds]
    return Job("id", "me", 1, {"model": "m", "input": items, "context_management": limits})


@pytest.mark.parametrize(
    ("thresholds", "compacts"),
    [((1000,), True), ((2000,), False), ((2000, 1000), True), ((), False)],
)
def test_the_lowest_threshold_decides_on_a_summary(
    thresholds: tuple[int, ...], compacts: bool
) -> None:
    job = a_job([OLD, NEW], *thresholds)
    if compacts:
        with pytest.raises(summaries.SummaryNeeded):
            summaries.check(job)
    else:
        summaries.check(job)


def test_a_conversation_without_an_earlier_turn_is_not_compacted() -> None:
    summaries.check(a_job([RULES, OLD], 1000))


@pytest.mark.parametrize(
    ("turn", "kept"),
    [
        ([NEW], [message("S"), NEW]),
        ([NEW, *call("short")], [message("S"), NEW, *call("short")]),
        ([NEW, *call(TEXT)], [NEW, message("S")]),
        ([OLD], [message("S"), OLD]),
    ],
)
def test_a_summary_replaces_the_calls_of_the_current_turn_only_if_it_is_long(
    turn: list[dict[str, Any]], kept: list[dict[str, Any]]
) -> None:
    job = a_job([RULES, OLD, *turn], 1000)
    assert [RULES, *kept] == summaries.continued(job, "S").params["input"]
