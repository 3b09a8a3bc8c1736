"""Tests the rules for devices with a correct run, and with others that break one rule each."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.chaos.device_rules import KIND, Device, Observed, check_devices
from tests.chaos.history import Event

ONE = "conv_1"
RESPONSE = "resp_1"
ASKED, ANSWERED = {"id": "msg_1", "role": "user"}, {"id": "msg_2", "role": "assistant"}
METADATA = {"user": "anna"}


def listed(id_: str = ONE, *, last: int = 5, **status: Any) -> Event:
    state = {"updated_at_ms": 7, "running": [], "read": 3, "unread": False, **status}
    return {"id": id_, "metadata": METADATA, "holdline": {**state, "sequence_number": last}}


def following(last: int = -1, *, reset: bool = False, **about: Any) -> Event:
    state = {"sequence_number": last, "event_id": None, "reset": reset}
    return {"type": "holdline:following", **state, **about}


def event(number: int, kind: str, **fields: Any) -> Event:
    cursor = {"sequence_number": number, "event_id": f"evt_{number}"}
    return {"type": f"{KIND}{kind}", "conversation": ONE, **cursor, **fields}


def added(number: int, item: Event) -> Event:
    return event(number, "items.added", items=[item], response_id=RESPONSE)


EVENTS = [
    event(0, "created", metadata=METADATA),
    event(1, "response.created", response_id=RESPONSE, previous_response_id=None),
    added(2, ASKED),
    added(3, ANSWERED),
    event(4, "response.ended", response_id=RESPONSE, status="completed"),
    event(5, "read", read=3),
]
CHANGED = {"type": "holdline:list.changed", "change": "read", "conversation": listed()}
LISTED = [
    following(8, conversations=[listed(last=4, read=-1, unread=True)], has_more=False),
    {**CHANGED, "sequence_number": 9, "event_id": "evt_9"},
]
FOREIGN = {"type": "response.created", "response": {"metadata": {"user": "ben"}}}
MESSAGES = [*LISTED, following(5, conversation=listed()), *EVENTS]


def received(messages: list[Event]) -> Device:
    device = Device("anna/phone", "anna")
    for message in deepcopy(messages):
        device.received(message)
    return device


def broken(messages: list[Event] = MESSAGES, real: list[Observed] | None = None) -> set[str]:
    found = [Observed(listed(), [ASKED, ANSWERED])] if real is None else real
    return {one.rule for one in check_devices([received(messages)], {"anna": found})}


def test_a_correct_run_breaks_no_rule() -> None:
    assert set() == broken()


def test_a_device_resumes_at_its_cursor() -> None:
    device = Device("anna/phone", "anna")
    assert ({}, {"starting_after": -1}) == (device.cursor(None), device.cursor(ONE))
    device = received(MESSAGES)
    assert {"starting_after": 9, "event_id": "evt_9"} == device.cursor(None)
    assert {"starting_after": 5, "event_id": "evt_5"} == device.cursor(ONE)
    # A device that resumes receives the state again, and no earlier event.
    again = [*MESSAGES, following(5, conversation=listed())]
    assert set() == broken(again)


def without(index: int) -> list[Event]:
    return [*MESSAGES[: 3 + index], *MESSAGES[4 + index :]]


@pytest.mark.parametrize(
    ("messages", "rules"),
    [
        (without(2), {"D1", "D4"}),
        ([*MESSAGES, EVENTS[5]], {"D1"}),
        ([*MESSAGES[:5], MESSAGES[6], MESSAGES[5], *MESSAGES[7:]], {"D1", "D4"}),
        ([*MESSAGES, following(reset=True, conversation=listed()), *EVENTS], {"D1"}),
        ([*MESSAGES, FOREIGN], {"D2"}),
        (MESSAGES[:-2], {"D3", "D4"}),
        ([*MESSAGES, event(6, "response.ended", response_id=RESPONSE, status="x")], {"D3", "D4"}),
        (MESSAGES[:-1], {"D4"}),
        (MESSAGES[:2], {"D4"}),
        (MESSAGES[:1] + MESSAGES[2:], {"D5"}),
        ([{**LISTED[0], "conversations": []}, *MESSAGES[2:]], {"D5"}),
    ],
)
def test_each_broken_rule_is_found(messages: list[Event], rules: set[str]) -> None:
    assert rules <= broken(messages)


def deleted(real: list[Observed]) -> None:
    real.clear()


def another_item(real: list[Observed]) -> None:
    real[0] = Observed(real[0].listed, [ANSWERED, ASKED])


def another_title(real: list[Observed]) -> None:
    real[0].listed["metadata"] = {"title": "Sky"}


@pytest.mark.parametrize("change", [deleted, another_item, another_title])
def test_a_state_that_differs_from_the_api_is_found(
    change: Callable[[list[Observed]], None],
) -> None:
    real = [Observed(deepcopy(listed()), [ASKED, ANSWERED])]
    change(real)
    assert "D4" in broken(real=real)


def test_a_deleted_conversation_has_left_the_list() -> None:
    gone = {"type": f"{KIND}deleted", "conversation": ONE}
    over = {"type": "holdline:list.deleted", "conversation": ONE, "sequence_number": 10}
    assert set() == broken([*MESSAGES, gone, {**over, "event_id": "evt_10"}], [])
    assert {"D5"} == broken([*MESSAGES, gone], [])
