"""Decides whether a model may continue the text in a log after its call was interrupted.

The output must be one unfinished text without annotations or log probabilities. Finished reasoning
may precede it. The request must neither ask for structured output nor require a tool call, because
an endpoint applies a grammar or a forced call from the beginning of its own output.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from jobs.log.items import Place
from jobs.summary import COMPACT
from jobs.tokens import CHARACTERS_A_TOKEN, COUNT

from .upstream.chat.continuation import Continuation, is_long_enough
from .upstream.chat.request import LOGPROBS
from .upstream.responses.upstream_item import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jobs.checkpoint import Checkpoint
    from jobs.log.items import Item
    from jobs.log.response_state import ResponseState
    from jobs.record import Job


def continuation(
    job: Job, state: ResponseState, checkpoint: Checkpoint
) -> tuple[Continuation, Place] | None:
    """Returns the text that the model of the checkpoint may continue, and the text's place.

    Returns None if the response has to restart.
    """
    if len(state.open_indexes) != 1 or not _is_free(job.params):
        return None
    (index,) = state.open_indexes
    item = state.items[index]
    match item:
        case {
            "type": "message",
            "content": [
                {"type": "output_text", "text": str(text), "annotations": [], "logprobs": []}
            ],
        } if is_long_enough(text) and not _may_stop(text, job.params.get("holdline_stop") or ()):
            pass
        case _:
            return None
    before = [one for number, one in state.items.items() if number != index]
    if any(one["type"] != "reasoning" for one in before):
        return None
    parts = sizes(state.output, state.continued)
    tokens = -(-sum(parts) // CHARACTERS_A_TOKEN)
    place = Place("output_text", item["id"], index)
    begun = Continuation(
        checkpoint.model, text, tokens, tuple(parts), upstream_model=checkpoint.upstream_model
    )
    return begun, place


def _may_stop(text: str, stops: Iterable[str]) -> bool:
    """Returns True if the text ends with the beginning of a stop word.

    An endpoint that continues the text would not recognize the rest of the stop word.
    """
    return any(text.endswith(stop[:size]) for stop in stops for size in range(1, len(stop)))


def sizes(output: list[Item], continued: list[int]) -> list[int]:
    """Returns the sizes in bytes of the parts of an output that each call has written.

    `continued` lists the length of the message's text, in code points, at which each later call
    began.
    """
    texts = [text_of(item) for item in output]
    types = [item["type"] for item in output]
    start = sum(map(len, texts[: types.index("message")])) if continued else 0
    text = "".join(texts)
    bounds = pairwise([0, *(start + length for length in continued), len(text)])
    return [len(text[first:last].encode()) for first, last in bounds]


def _is_free(params: dict[str, Any]) -> bool:
    """Returns True if the request determines neither the form of the answer nor a call in it."""
    if params.get(COMPACT) or params.get(COUNT):
        return False
    if params.get("top_logprobs") or LOGPROBS in (params.get("include") or ()):
        return False
    if ((params.get("text") or {}).get("format") or {}).get("type", "text") != "text":
        return False
    match params.get("tool_choice"):
        case None | "auto" | "none" | {"type": "allowed_tools", "mode": "auto"}:
            return True
        case _:
            return False
