"""Decides when a conversation is compacted, and builds the request for its summary.

A request asks for compaction in one of three ways: as `POST /v1/responses/compact`, with a final
`compaction_trigger` item, or with `context_management`, whose threshold the input exceeds. If the
endpoint cannot compact, the router raises `SummaryNeeded`. The worker then asks the job's model for
a summary of all items, with a request that has the same items and tools and one more user message.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from jobs.summary import TRIGGER, leading_rules, message, only_compacts
from jobs.tokens import estimate, input_tokens
from jobs.turns import turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.record import Job

    from .model_errors import Refused

Item = dict[str, Any]

PARAMETER: Final = "context_management"
# The maximum size of a summary in bytes.
MAX_SUMMARY_BYTES: Final = 262_144
# The maximum size in bytes of the user messages that a compacted conversation keeps unchanged.
MAX_KEPT_BYTES: Final = 262_144
# The codes of refusals after which the worker compacts instead of the endpoint.
_TOO_LONG: Final = "upstream_input_too_long"
_REJECTED: Final = "upstream_rejected"
# The parameters that the request for a summary copies from the job. It needs the tools, because
# endpoints reject a conversation with calls of unknown tools.
_SAME: Final = (
    "model",
    "instructions",
    "tools",
    "reasoning",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
)
_PROMPT: Final = (
    "Stop here, and do not answer the messages above. The conversation above becomes too long, so "
    "your next message will replace it. Write a summary with which another model can continue "
    "without any gap. State in order: what the user wants, with all requirements and constraints; "
    "all standing instructions; the decisions and the results so far; names, numbers, paths, "
    "identifiers and quotes that are still needed, word for word; the calls of tools that matter, "
    "and their results; what is unfinished, and the next step. Write only the summary, in the "
    "language of the conversation."
)


class SummaryNeeded(Exception):
    """The endpoint cannot compact the conversation, so the worker has to do it."""


def check(job: Job) -> None:
    """Raises SummaryNeeded if the worker has to compact the conversation before a call."""
    if only_compacts(job.params):
        raise SummaryNeeded
    threshold = _threshold(job)
    if threshold is not None and input_tokens(job) > threshold and _older(job):
        raise SummaryNeeded


def check_refusal(job: Job, error: Refused) -> None:
    """Raises SummaryNeeded if the endpoint may have refused the request for its compaction."""
    if error.parameter == PARAMETER:
        check(job)
    too_long = PARAMETER in job.params and error.code == _TOO_LONG and _older(job)
    if too_long or (only_compacts(job.params) and error.code == _REJECTED):
        raise SummaryNeeded from None


def request(job: Job) -> Job:
    """Returns the job whose answer is the summary of all items of `job`."""
    asked = [item for item in _asked(job) if item.get("type") != TRIGGER]
    prompt = {"type": "input_text", "text": _PROMPT}
    params: dict[str, Any] = {name: job.params[name] for name in _SAME if name in job.params}
    params |= {
        "input": [*asked, {"type": "message", "role": "user", "content": [prompt]}],
        "store": False,
        "truncation": "auto",  # if the conversation is too long even for a summary
    }
    if params.get("tools"):
        params["tool_choice"] = "none"
    return replace(job, params=params)


def continued(job: Job, text: str) -> Job:
    """Returns the job with the summary `text` instead of its older items."""
    rules, before, _, after = _parts(job)
    asked = [*rules, *before, message(text), *after]
    params = {name: value for name, value in job.params.items() if name != PARAMETER}
    return replace(job, context=[], params={**params, "input": asked})


def kept(items: list[Item], most: int, size: Callable[[Item], int]) -> list[Item]:
    """Returns the latest user messages whose sizes together are at most `most` bytes."""
    found: list[Item] = []
    for item in reversed(items):
        if item.get("type", "message") == "message" and item.get("role") == "user":
            most -= size(item)
            if most < 0:
                break
            found.insert(0, item)
    return found


def _parts(job: Job) -> tuple[list[Item], list[Item], list[Item], list[Item]]:
    """Divides the items of a job into four lists.

    The lists contain the leading system and developer messages, the items before the summary, the
    items that the summary replaces, and the items after it.

    The current turn follows the summary if it is short enough. Otherwise only the user messages at
    its beginning are kept, before the summary, which then replaces the rest of the turn.
    """
    items = [*job.context, *_asked(job)]
    rules = leading_rules(items)
    said = items[len(rules) :]
    begun = turns(said)
    if not begun:
        return rules, [], said, []
    turn = said[begun[-1] :]
    end = next((n for n, one in enumerate(turn) if one.get("role") != "user"), len(turn))
    if end == len(turn) or estimate(turn) <= (_threshold(job) or 0) // 2:
        return rules, [], said[: begun[-1]], turn
    return rules, turn[:end], [*said[: begun[-1]], *turn[end:]], []


def _older(job: Job) -> list[Item]:
    """Returns the items that a summary would replace."""
    return _parts(job)[2]


def _threshold(job: Job) -> int | None:
    """Returns the lowest threshold in tokens, or None if the job has no threshold."""
    entries = job.params.get(PARAMETER) or ()
    return min(
        (one["compact_threshold"] for one in entries if one.get("compact_threshold")), default=None
    )


def _asked(job: Job) -> list[Item]:
    asked = job.params.get("input", "")
    if isinstance(asked, str):
        part = {"type": "input_text", "text": asked}
        return [{"type": "message", "role": "user", "content": [part]}]
    return list(asked)
