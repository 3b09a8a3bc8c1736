"""Tests the simulated model's answers and the keywords that change its behaviour."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command.demo.demo_text import Wish, answer, tokens, wish
from command.demo.tool import called_tool, example


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("prompt", "wished"),
    [
        ("Why is the sky blue?", Wish()),
        ("Explain it slowly, please", Wish(slowly=True)),
        ("FAIL", Wish(fail=True)),
        ("It failed, and failure is common", Wish()),
        ("fail once", Wish(fail=True, once=True)),
        ("once more", Wish()),
        ("please be cut once", Wish(be_cut=True, once=True)),
        ("rate limit me", Wish(rate_limit=True)),
        ("call a tool", Wish(call_tool=True)),
        ("call the tool slowly", Wish(call_tool=True, slowly=True)),
        ("What is wrong?\n```\nfail()\n```", Wish()),
    ],
)
def test_keywords_in_the_prompt_select_the_behaviour(prompt: str, wished: Wish) -> None:
    assert wished == wish(prompt)


def test_an_answer_is_markdown_and_names_itself_a_simulation() -> None:
    text = answer([user("Why is the sky blue?")])

    assert "a simulation, not an AI" in text
    assert "> Why is the sky blue?" in text
    for piece in ("\n## ", "\n1. ", "\n|---|---:|\n", "\n```python\n"):
        assert piece in text


def test_an_answer_lists_the_earlier_questions() -> None:
    first = [user("Who wrote Faust?")]
    conversation = [*first, {"role": "assistant", "content": answer(first)}, user("And when?")]

    assert "asked once before this" in answer(conversation)
    assert "- “Who wrote Faust?”" in answer(conversation)
    assert "before this" not in answer(first)


def test_content_parts_are_accepted() -> None:
    parts = [{"type": "text", "text": "Look at this"}, {"type": "image_url", "image_url": {}}]

    assert "> Look at this\n> [image_url]" in answer([user(parts)])


def test_code_is_reviewed_in_three_sections() -> None:
    code = "def f():\n    try:\n        return 1\n    except:\n        pass  # TODO\n"

    text = answer([user(f"What do you think?\n```python\n{code}```")])

    assert "**5 lines** of Python, 1 function." in text
    assert "## Improvements\n\n- line 5 (low): a TODO is waiting" in text
    assert "| longest function | `f`, 5 lines, from line 1 |" in text
    assert "## Bugs\n\n- line 4 (medium): a bare `except:`" in text


def test_a_tool_result_is_quoted() -> None:
    text = answer([user("call a tool"), {"role": "tool", "content": "18 degrees"}])

    assert "The tool answered:\n\n> 18 degrees" in text


@settings(deadline=None)
@given(st.text())
def test_the_joined_tokens_equal_the_text(text: str) -> None:
    assert text == "".join(tokens(text))


def test_the_first_tool_is_called_once() -> None:
    offered = [{"type": "function", "function": {"name": "weather"}}]

    called = called_tool(offered, [user("call a tool")])

    assert called is not None
    assert {"name": "weather", "arguments": "{}"} == called["function"]
    assert called_tool(offered, [user("call a tool"), {"role": "tool"}]) is None
    assert called_tool(None, [user("call a tool")]) is None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "string"}, "demo"),
        ({"type": "string", "enum": ["north", "south"]}, "north"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": ["boolean", "null"]}, True),
        ({"type": "array", "items": {"type": "number"}}, [1]),
        ({"anyOf": [{"type": "null"}, {"type": "string"}]}, None),
        ({"type": "object", "properties": {"city": {"default": "Weimar"}}}, {"city": "Weimar"}),
    ],
)
def test_tool_arguments_match_the_schema(schema: dict[str, Any], value: Any) -> None:
    assert value == example(schema)
