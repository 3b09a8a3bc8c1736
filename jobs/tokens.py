"""Estimates the tokens of a request before it runs, for fair queueing, limits and budgets.

An estimate may be several times too high or too low. When the response has ended, the actual usage
replaces the estimate. The calculation must be fast. Its result must be greater than zero, and grow
with the size of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .record import Job

# The parameter of a job with which an endpoint only counts the input tokens. No client can set it.
COUNT: Final = "count"
CHARACTERS_A_TOKEN: Final = 4  # for English; a token of another language or of code has fewer
IMAGE_TOKENS: Final = 1000
# The estimated output tokens of a response whose `max_output_tokens` is larger or missing. Few
# answers come near their `max_output_tokens`, so a large value would be a bad estimate.
USUAL_OUTPUT_TOKENS: Final = 500
# The parameters of a request whose content is sent to the model as input. Other parameters contain
# no input tokens.
_SHOWN: Final = ("instructions", "input", "tools", "text")


def input_tokens(job: Job) -> int:
    """Estimates the input tokens of a job, including its earlier turns."""
    return estimate([job.context, *(job.params.get(name) for name in _SHOWN)]) + 1


def estimate(value: Any) -> int:
    """Estimates the tokens of all strings and images in a nested value."""
    characters, images = _measure(value)
    return -(-characters // CHARACTERS_A_TOKEN) + images * IMAGE_TOKENS


def output_tokens(job: Job) -> int:
    """Estimates the output tokens of a job."""
    asked = job.params.get("max_output_tokens")
    return min(asked, USUAL_OUTPUT_TOKENS) if isinstance(asked, int) else USUAL_OUTPUT_TOKENS


def _measure(value: Any) -> tuple[int, int]:
    """Returns the number of characters in all strings of a nested value, and the number of images.

    An image counts as an image only, and adds no characters.
    """
    characters, images, rest = 0, 0, [value]
    while rest:  # a loop: clients may nest values too deeply for recursion
        inner = rest.pop()
        kind = type(inner)  # with up to 100 000 values, `match` would take ten times as long
        if kind is dict:
            rest += inner.values()
        elif kind is list:
            rest += inner
        elif kind is str and inner.startswith("data:image/"):
            images += 1
        elif kind is str:
            characters += len(inner)
    return characters, images
