"""Tests the request to continue a text, and how the reply is joined to the text."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from worker.upstream.chat.continuation import (
    MAX_OVERLAP,
    MIN_OVERLAP,
    Continuation,
    Joiner,
    continued,
    is_long_enough,
)
from worker.upstream.model_errors import Broken

TEXT = "Once upon a time there was a lighthouse keeper, who wrote letters "
REST = "to the sea.\nThe sea answered him: \U0001f30a, every day."
FULL = TEXT + REST
# Alphabets in which repetitions, whitespace and surrogate pairs are frequent.
CHARACTERS = st.sampled_from(["a", "b", " ", "\n", "\U0001f30a", "é"])


def joined(text: str, *pieces: str) -> str | None:
    """Returns what the joiner adds to the text, or None if the reply does not continue it."""
    joiner = Joiner(Continuation("m", text, 0))
    try:
        return "".join([*map(joiner.feed, pieces), joiner.end()])
    except Broken:
        return None


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces = []
    for size in sizes:
        pieces.append(text[:size])
        text = text[size:]
    return [piece for piece in [*pieces, text] if piece]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("at", range(MIN_OVERLAP + 1, len(FULL)))
def test_a_text_is_continued_after_each_character(at: int, size: int) -> None:
    text, sent = FULL[:at], FULL[:at].rstrip()
    rest = FULL[len(sent) :]
    pieces = [rest[start : start + size] for start in range(0, len(rest), size)]
    assert FULL[at:] == joined(text, *pieces)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("at", range(MIN_OVERLAP + 1, len(FULL), 5))
def test_a_repetition_of_the_whole_text_is_left_out(at: int, size: int) -> None:
    pieces = [FULL[start : start + size] for start in range(0, len(FULL), size)]
    assert FULL[at:] == joined(FULL[:at], *pieces)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        pytest.param(TEXT, TEXT[:40] + "another answer", id="begins-again-with-another-text"),
        pytest.param(TEXT, "  " + TEXT, id="begins-again-after-whitespace"),
        pytest.param(TEXT, TEXT[:50], id="begins-again-and-stops"),
        pytest.param(TEXT, TEXT[-40:] + REST, id="repeats-the-end"),
        pytest.param(TEXT.rstrip(), TEXT.rstrip()[-33:] + " " + REST, id="repeats-a-short-end"),
        pytest.param(TEXT, REST, id="lacks-the-space-that-was-not-sent"),
        pytest.param(TEXT, "\n" + REST, id="has-another-space"),
        # These texts end without whitespace, whose absence alone would make a reply another answer.
        pytest.param("É" + TEXT[:39], "E\u0301" + FULL, id="repeats-in-another-normalization"),
        pytest.param("Hey! " + TEXT[:39], "HEY! " + FULL.upper(), id="repeats-in-another-case"),
        pytest.param("A b " + TEXT[:39], "A\nb " + FULL, id="repeats-with-another-line-break"),
        pytest.param(TEXT.rstrip(), TEXT.replace(" ", "\n")[-41:], id="repeats-with-other-spaces"),
        pytest.param(TEXT.rstrip(), "\n" * 6000 + REST, id="endless-whitespace"),
        pytest.param("a" * 40, "a" * 60, id="periodic"),
        pytest.param("ab" * 20, "ab" * 30, id="periodic-with-a-longer-period"),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_what_may_belong_to_another_answer_is_not_joined(text: str, rest: str, size: int) -> None:
    pieces = [rest[start : start + size] for start in range(0, len(rest), size)]
    assert joined(text, *pieces) is None


@pytest.mark.parametrize("rest", ["", " ", "O", "Once", "letters", "once upon"])
def test_a_short_rest_is_joined(rest: str) -> None:
    text = TEXT.rstrip()
    assert rest == joined(text, rest)
    assert rest.removeprefix(" ") == (joined(TEXT, " " + rest.lstrip()) if rest else "")


def test_only_whitespace_may_be_missing_at_the_end() -> None:
    assert joined(TEXT + "\n\n") == ""
    assert joined(TEXT + "\n\n", " \n") == ""
    assert joined(TEXT + "\n\n", TEXT.rstrip()) == ""


def test_a_piece_is_held_back_only_while_it_repeats_the_text() -> None:
    joiner = Joiner(Continuation("m", TEXT.rstrip(), 0))
    assert joiner.feed(" On") == ""  # "Once" might follow
    assert joiner.feed("ly one more") == " Only one more"
    assert joiner.feed("Once") == "Once"


def test_what_is_held_back_is_bounded() -> None:
    text = "".join(f"line {number} of a long text\n" for number in range(1000))
    joiner = Joiner(Continuation("m", text + "The end.", 0))
    assert joiner.feed(text[-MAX_OVERLAP // 2 :]) == ""
    with pytest.raises(Broken):
        joiner.feed("The end.")
    earlier = text[2000 : 2000 + MIN_OVERLAP]
    joiner = Joiner(Continuation("m", text + "The end.", 0))
    assert joiner.feed(earlier) == earlier


@given(
    st.text(CHARACTERS, min_size=MIN_OVERLAP, max_size=80),
    st.text(CHARACTERS, max_size=80),
    st.lists(st.integers(1, 9)),
)
def test_an_honest_rest_is_joined_exactly_or_not_at_all(
    text: str, rest: str, sizes: list[int]
) -> None:
    if not is_long_enough(text):
        return
    honest = (text + rest)[len(text.rstrip()) :]
    # An answer that repeats all of its text cannot be told from an endpoint that does.
    assume(not honest.startswith(text))
    assert joined(text, *cut(honest, sizes)) in (rest, None)


def test_an_empty_or_short_text_is_not_continued() -> None:
    assert not is_long_enough("")
    assert not is_long_enough(" " * 40 + "\n" * 40)
    assert not is_long_enough(" " * 40 + "a" * (MIN_OVERLAP - 1) + " ")
    assert is_long_enough("a" * MIN_OVERLAP)


@pytest.mark.parametrize(
    ("kind", "message", "more"),
    [
        ("vllm", {}, {"continue_final_message": True, "add_generation_prompt": False}),
        ("prefix", {"prefix": True}, {}),
        ("assistant", {}, {}),
    ],
)
def test_the_text_is_the_last_message(kind: str, message: object, more: object) -> None:
    asked = {"role": "user", "content": "hi"}
    sent, fixed = continued(
        {"messages": [asked], "max_tokens": 100},
        Continuation("m", TEXT, 17),
        kind,  # type: ignore[arg-type]
        "max_tokens",
    )
    last = {"role": "assistant", "content": TEXT.rstrip()} | message  # type: ignore[operator]
    assert {"messages": [asked, last], "max_tokens": 83} | more == sent  # type: ignore[operator]
    assert {"messages", "max_tokens"} | set(more) == fixed  # type: ignore[call-overload]
