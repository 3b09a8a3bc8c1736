"""What a request takes, in tokens, before anybody has counted: for turns, limits and budgets.

An estimate is wrong by a factor at times, and what is booked on it is put right when the answer has
ended. It must be cheap, never zero, and grow with what is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .record import Job

CHARACTERS_A_TOKEN: Final = 4  # of English text; other languages and code have fewer
IMAGE_TOKENS: Final = 1000
# What is asked for is a bound that answers seldom come near.
USUAL_OUTPUT_TOKENS: Final = 500
# Parts of a request that a model is shown; the rest is for us.
_SHOWN: Final = ("instructions", "input", "tools", "text")


def input_tokens(job: Job) -> int:
    """About how many tokens the model is shown."""
    shown = [job.context, *(job.params.get(name) for name in _SHOWN)]
    characters, images = _measure(shown)
    return -(-characters // CHARACTERS_A_TOKEN) + images * IMAGE_TOKENS + 1


def output_tokens(job: Job) -> int:
    """About how many tokens the answer has."""
    asked = job.params.get("max_output_tokens")
    return min(asked, USUAL_OUTPUT_TOKENS) if isinstance(asked, int) else USUAL_OUTPUT_TOKENS


def _measure(value: Any) -> tuple[int, int]:
    """The characters of all texts inside, and the number of images."""
    characters, images, rest = 0, 0, [value]
    while rest:  # no recursion: how deeply it is nested is the client's choice
        inner = rest.pop()
        kind = type(inner)  # there may be 100 000 values, and `match` takes ten times as long
        if kind is dict:
            rest += inner.values()
        elif kind is list:
            rest += inner
        elif kind is str and inner.startswith("data:image/"):
            images += 1
        elif kind is str:
            characters += len(inner)
    return characters, images
