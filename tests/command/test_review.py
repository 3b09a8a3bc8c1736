"""Tests that the simulated model's statements about code are correct."""

import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command.demo.review import Fault, Function, observe, split

PYTHON = textwrap.dedent('''\
    import os

    def short(a, b=[]):
        return a

    async def longer(values):
        """TODO: say what it does."""
        for value in values:
            if value:
                with open(value) as file:
                    while True:
                        print(file.read())
            elif value is None:
                pass
            elif value == None:
                eval("1")
        try:
            return 1
        except:
            pass
    ''')
JAVASCRIPT = textwrap.dedent("""\
    // function commented() {
    function first(a) {
      const text = "} function quoted() {";
      return text;
    }
    const second = async (b) => {
      if (b) {
        return 1; // FIXME
      }
    };
    """)


def test_python_is_parsed() -> None:
    seen = observe(PYTHON)

    assert "Python" == seen.language
    assert 20 == seen.lines
    assert (Function("short", 3, 2), Function("longer", 6, 15)) == seen.functions
    assert Function("longer", 6, 15) == seen.longest
    assert 4 == seen.depth
    assert ((7, "TODO"),) == seen.marks


def test_python_faults_are_reported_with_their_lines() -> None:
    seen = observe(PYTHON)

    assert [(3, "high"), (15, "low"), (16, "high"), (19, "medium")] == [
        (fault.line, fault.severity) for fault in seen.faults
    ]
    for words, fault in zip(("default", "None", "eval", "except"), seen.faults, strict=True):
        assert words in fault.text


def test_a_chain_of_elifs_counts_as_one_level() -> None:
    code = "if a:\n    pass\n" + "elif b:\n    pass\n" * 9 + "else:\n    if c:\n        pass\n"

    # The parser treats an `if` inside `else` like an elif, so it adds no nesting level.
    assert 1 == observe(code).depth


def test_other_languages_are_parsed_by_braces_outside_strings_and_comments() -> None:
    seen = observe(JAVASCRIPT, "js")

    assert "js" == seen.language
    assert (Function("first", 2, 4), Function("second", 6, 5)) == seen.functions
    assert 2 == seen.depth
    assert ((8, "FIXME"),) == seen.marks


def test_long_lines_are_reported_by_number() -> None:
    assert (2,) == observe(f"a = 1\nb = '{'x' * 100}'\n").long_lines


def test_a_python_syntax_error_is_reported_with_its_line() -> None:
    (fault,) = observe("a = 1\nb = = 2\n", "python").faults

    assert Fault(2, "high", "Python cannot parse it: invalid syntax") == fault


def test_faults_of_other_languages_are_found_outside_strings_and_comments() -> None:
    code = 'if (a == "b == c") {}\n// eval(x)\nel.innerHTML = x;\ntry { f() } catch (e) { }\n'

    found = [(fault.line, fault.severity) for fault in observe(code, "javascript").faults]

    assert [(1, "medium"), (3, "high"), (4, "medium")] == found
    assert () == observe(code, "go").faults[1:]


def test_only_the_added_lines_of_a_diff_are_reviewed() -> None:
    code = "@@ -7,2 +7,3 @@\n     7  eval(a) // TODO\n       -eval(b)\n     8 +eval(c) // FIXME"

    seen = observe(code, "diff")

    assert ((8, "FIXME"),) == seen.marks
    assert [8] == [fault.line for fault in seen.faults]


def test_very_deep_code_does_not_break_the_review() -> None:
    assert observe("x = " + "-" * 50_000 + "1", "python").lines == 1
    assert 1 == observe("x = 1" + " + 1" * 5_000, "python").lines


@pytest.mark.parametrize(
    ("text", "prose", "pieces"),
    [
        ("Look:\n```js\nlet a = 1;\n```\nwell?", "Look: well?", [("js", "let a = 1;\n")]),
        ("What is 2 + 2?", "What is 2 + 2?", []),
        ("Is it slow?\ndef f():\n    return 1", "Is it slow?", [("", "def f():\n    return 1")]),
        ("```\nopen", "", [("", "open")]),
    ],
)
def test_prose_and_code_are_separated(text: str, prose: str, pieces: list[tuple[str, str]]) -> None:
    words, code = split(text)

    assert prose.split() == words.split()
    assert pieces == code


@settings(deadline=None)
@given(st.text(alphabet="{}()'\"/*\n \\`fn=>axif:d", max_size=200), st.sampled_from(["", "js"]))
def test_any_text_can_be_reviewed(text: str, language: str) -> None:
    seen = observe(text, language)

    assert seen.depth >= 0
    for function in seen.functions:
        assert 1 <= function.line <= seen.lines
        assert function.line + function.length - 1 <= seen.lines
