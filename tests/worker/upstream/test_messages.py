"""Tests that any history of items becomes messages that every model server accepts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.record import Job
from worker.upstream.chat.messages import messages
from worker.upstream.chat.request import completion
from worker.upstream.tool_calls import NOT_EXECUTED
from worker.upstream.truncation import shorten

from . import chat_rules

Json = dict[str, Any]
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
FILE = {"type": "input_file", "file_data": "AAAA", "filename": "a.pdf"}
TEXT = {"type": "input_text", "text": "hi"}
URL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "auto"}}


def said(role: str, text: str | list[Json]) -> Json:
    return {"type": "message", "role": role, "content": text}


def call(call_id: str = "c1", arguments: str = "{}", name: str = "f", **more: Any) -> Json:
    item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
    return item | more


def result(call_id: str = "c1", output: Any = "sun") -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def calls(*ids: str, content: str | None = None) -> Json:
    told = [
        {"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids
    ]
    return {"role": "assistant", "content": content, "tool_calls": told}


def answer(call_id: str = "c1", content: str = "sun") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


USER = {"role": "user", "content": "hi"}
NAMED = {
    "text behind a call": (
        [call(), said("assistant", "\n"), result()],
        [calls("c1", content="\n"), answer()],
    ),
    "text before, between and behind calls": (
        [
            said("assistant", "a"),
            call(),
            said("assistant", "b"),
            call("c2"),
            said("assistant", "c"),
            result(),
            result("c2"),
        ],
        [calls("c1", "c2", content="abc"), answer(), answer("c2")],
    ),
    "messages between a call and its result": (
        [call(), said("user", "hi"), said("developer", "be kind"), result()],
        [calls("c1"), answer(), USER, {"role": "system", "content": "be kind"}],
    ),
    "a call while another one waits": (
        [call(), said("user", "hi"), call("c2"), result("c2"), result("c1", "rain")],
        [USER, calls("c2"), answer("c2"), calls("c1"), answer("c1", "rain")],
    ),
    "an answer to another message while a call waits": (
        [
            said("user", "run"),
            said("assistant", "a"),
            call(),
            said("assistant", "b"),
            said("user", "hi"),
            said("assistant", "hello"),
            said("user", "and?"),
            result(),
        ],
        [
            {"role": "user", "content": "run"},
            {"role": "assistant", "content": "a"},
            {"role": "assistant", "content": "b"},
            USER,
            calls("c1", content="hello"),
            answer(),
            {"role": "user", "content": "and?"},
        ],
    ),
    "an answer with two calls of which one waits": (
        [call(), call("c2"), result(), said("user", "hi"), said("assistant", "a"), result("c2")],
        [USER, calls("c1", "c2", content="a"), answer(), answer("c2")],
    ),
    "calls of two answers that wait": (
        [call(), said("user", "hi"), call("c2"), result(), result("c2"), said("assistant", "a")],
        [
            USER,
            calls("c1"),
            answer(),
            calls("c2"),
            answer("c2"),
            {"role": "assistant", "content": "a"},
        ],
    ),
    "the question again with each result": (
        [
            *(said("user", [TEXT]), call(), said("user", [TEXT]), result()),
            *(call("c2"), said("user", [TEXT]), result("c2", "rain")),
        ],
        [USER, USER, calls("c1"), answer(), USER, calls("c2"), answer("c2", "rain")],
    ),
    "the rules and the question again before a newer question": (
        [
            *(said("system", "be kind"), said("user", "hi"), call()),
            *(said("system", "be kind"), said("user", "hi"), said("user", "and?"), result()),
        ],
        [
            *({"role": "system", "content": "be kind"}, USER) * 2,
            calls("c1"),
            answer(),
            {"role": "user", "content": "and?"},
        ],
    ),
    "an older question again": (
        [said("user", "hi"), said("user", "run"), call(), said("user", "hi"), result()],
        [USER, {"role": "user", "content": "run"}, calls("c1"), answer(), USER],
    ),
    "a call that was never answered": (
        [call(), said("user", "hi")],
        [calls("c1"), answer("c1", NOT_EXECUTED), USER],
    ),
    "one of two calls that was answered": (
        [call(), call("c2"), result("c2"), said("user", "hi")],
        [calls("c1", "c2"), answer("c2"), answer("c1", NOT_EXECUTED), USER],
    ),
    "a call that was cut": (
        [said("assistant", "a"), call(arguments='{"ci', status="incomplete"), said("user", "hi")],
        [{"role": "assistant", "content": "a"}, USER],
    ),
    "nothing but a call that was cut": ([call(arguments='{"ci'), said("user", "hi")], [USER]),
    "a result without a call": (
        [said("user", "hi"), result()],
        [USER, {"role": "user", "content": "Result of a call that is not shown here:\nsun"}],
    ),
    "a call and a result that are told again": (
        [call(), call(), result(), result()],
        [calls("c1"), answer()],
    ),
    "an id in each turn": (
        [call(), said("user", "hi"), call(), result()],
        [calls("c1"), answer("c1", NOT_EXECUTED), USER, calls("c1_2"), answer("c1_2")],
    ),
    "an image and a file in a result": (
        [
            call(),
            call("c2"),
            result("c1", [{"type": "input_text", "text": "here"}, IMAGE, FILE]),
            result("c2"),
        ],
        [
            calls("c1", "c2"),
            answer("c1", "here"),
            answer("c2"),
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Result of f (c1), continued:"},
                    URL,
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "AAAA"}},
                ],
            },
        ],
    ),
    "an image of the system and of the assistant": (
        [
            said("system", [TEXT, IMAGE]),
            said("developer", [IMAGE]),
            call(),
            said("assistant", [IMAGE, TEXT]),
            result(),
        ],
        [
            {"role": "system", "content": "hi"},
            {"role": "user", "content": [URL]},
            {"role": "user", "content": [URL]},
            calls("c1", content="hi"),
            answer(),
            {"role": "user", "content": [URL]},
        ],
    ),
    "an empty text beside an image": (
        [said("user", [TEXT | {"text": ""}, IMAGE, TEXT])],
        [{"role": "user", "content": [URL, {"type": "text", "text": "hi"}]}],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_items_are_regrouped(name: str) -> None:
    items, expected = NAMED[name]
    assert expected == messages(items)
    chat_rules.check(expected)


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        ("null", "{}"),
        ("[1]", '{"invalid_arguments": "[1]"}'),
        ('{"a": NaN}', '{"invalid_arguments": "{\\"a\\": NaN}"}'),
        ('{"a": 1', '{"invalid_arguments": "{\\"a\\": 1"}'),
    ],
)
def test_arguments_of_calls_are_json_objects(arguments: str, sent: str) -> None:
    shown = messages([call(arguments=arguments), result()])
    assert sent == shown[0]["tool_calls"][0]["function"]["arguments"]


ROLES = ("user", "assistant", "system")
IDS = st.sampled_from(["a", "b", "c", "a_2"])
WORDS = st.text("xyz ", max_size=4)
PARTS = st.lists(
    st.one_of(
        st.builds(lambda text: {"type": "input_text", "text": text}, WORDS),
        st.sampled_from([IMAGE, FILE]),
    ),
    max_size=3,
)
ITEMS = st.lists(
    st.one_of(
        st.builds(said, st.sampled_from(ROLES), st.one_of(WORDS, PARTS)),
        st.builds(call, IDS, st.sampled_from(["{}", '{"a": 1}', '{"a', "", "[]", "null", "{}{}"])),
        st.builds(result, IDS, st.one_of(WORDS, PARTS)),
        st.just({"type": "reasoning", "summary": [], "content": []}),
    ),
    max_size=14,
)


@given(ITEMS)
def test_messages_of_any_history_satisfy_the_rules_of_servers(items: list[Json]) -> None:
    chat_rules.check(messages(items))


@given(ITEMS)
def test_no_message_is_lost_or_reordered_within_its_role(items: list[Json]) -> None:
    shown = messages(items)
    for role in ROLES:
        told = chat_rules.texts([one for one in items if "role" in one], role)
        mine = [
            one for one in shown if one["role"] != "user" or not str(one).count("Result of ") > 0
        ]
        assert told == chat_rules.texts(mine, role)


@given(ITEMS)
def test_no_result_is_lost(items: list[Json]) -> None:
    numbered = [
        {**one, "output": f"<{number}>"} if one["type"] == "function_call_output" else one
        for number, one in enumerate(items)
    ]
    told = re.findall(r"<\d+>", json.dumps(messages(numbered)))
    assert sorted(told) == sorted(one["output"] for one in numbered if "output" in one)
    tools = re.findall(r"<\d+>", chat_rules.texts(messages(numbered), "tool"))
    assert [one["output"] for one in numbered if one.get("output") in tools] == tools


@given(ITEMS, ITEMS)
def test_only_whole_turns_are_dropped(before: list[Json], asked: list[Json]) -> None:
    job = Job("resp_x", "me", 0, {"truncation": "auto", "input": asked}, before)
    arguments = completion(job, default_model="m")
    whole = arguments["messages"]
    while shorten(job, arguments):
        chat_rules.check(arguments["messages"])
        kept = arguments["messages"]
        assert len(kept) < len(whole)
        rules = next((n for n, one in enumerate(kept) if one["role"] != "system"), len(kept))
        assert "user" == kept[rules]["role"]
        assert whole[len(whole) - len(kept[rules:]) :] == kept[rules:]


def test_an_image_in_a_result_does_not_start_a_turn() -> None:
    asked = [said("user", "look"), call(), result("c1", [IMAGE])]
    before = [said("user", "old"), said("assistant", "older")]
    job = Job("resp_x", "me", 0, {"truncation": "auto", "input": asked}, before)
    arguments = completion(job, default_model="m")
    assert shorten(job, arguments)
    assert ["user", "assistant", "tool", "user"] == [one["role"] for one in arguments["messages"]]
    assert not shorten(job, arguments)


def test_items_of_a_turn_stay_together() -> None:
    shown = [said("user", "old"), call(), said("user", "wait"), result(), said("user", "new")]
    job = Job("resp_x", "me", 0, {"truncation": "auto"})
    arguments: Json = {"input": [*shown[:-1], *shown]}
    assert shorten(job, arguments)
    assert shown == arguments["input"]
    assert shorten(job, arguments)
    assert [said("user", "new")] == arguments["input"]
