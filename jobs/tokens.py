"""Estimates the tokens of a request before it runs, for fair queueing, limits and budgets.

An estimate may be wrong by a factor; the actual usage replaces it when the response has ended. It
must be cheap and never zero, and grow with the size of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .record import Job

CHARACTERS_A_TOKEN: Final = 4  # of English text; other languages and code have fewer
IMAGE_TOKENS: Final = 1000
# `max_output_tokens` is a bound that answers seldom come near, so this estimate caps it.
USUAL_OUTPUT_TOKENS: Final = 500
# The parts of a request that are sent to the model; the others only concern this program.
_SHOWN: Final = ("instructions", "input", "tools", "text")


def input_tokens(job: Job) -> int:
    """Estimates the tokens of the prompt."""
    shown = [job.context, *(job.params.get(name) for name in _SHOWN)]
    characters, images = _measure(shown)
    return -(-characters // CHARACTERS_A_TOKEN) + images * IMAGE_TOKENS + 1


def output_tokens(job: Job) -> int:
    """Estimates the tokens of the answer."""
    asked = job.params.get("max_output_tokens")
    return min(asked, USUAL_OUTPUT_TOKENS) if isinstance(asked, int) else USUAL_OUTPUT_TOKENS


def _measure(value: Any) -> tuple[int, int]:
    """Returns the number of characters in all nested strings, and the number of images."""
    characters, images, rest = 0, 0, [value]
    while rest:  # no recursion, because the client chooses the depth of nesting
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
