"""Converts token usage to the format of the Responses API, and estimates missing usage."""

from __future__ import annotations

from typing import Any, Final

from jobs.tokens import CHARACTERS_A_TOKEN

from .deltas import integer

_MAX_COUNT: Final = 2**53

# The field names of each token count in chat completions, in the Responses API and on other
# servers.
_INPUT: Final = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens")
_TOTAL: Final = ("total_tokens", "totalTokens")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_CACHED: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
_CACHE_WRITES: Final = ("cache_creation_input_tokens",)
_REASONING: Final = ("reasoning_tokens",)


def counted(counts: dict[str, Any]) -> dict[str, Any]:
    """Converts a provider's counts to the `usage` object of the Responses API.

    Some servers send a count under two names, once with the value zero, so the larger value is
    used. If the count of cached input tokens exceeds the input count, the server has not included
    the cached tokens in the input, so they are added. Reasoning tokens and the output count are
    handled in the same way. If the total exceeds the sum of input and output, the difference counts
    as cached input if it equals the cached count, and as reasoning otherwise. All these tokens were
    read or generated, so the result includes them.
    """
    prompt, completion = _largest(counts, _INPUT), _largest(counts, _OUTPUT)
    cached = max(_largest(part, _CACHED) for part in (counts, *map(counts.get, _INPUT_DETAILS)))
    written = _largest(counts, _CACHE_WRITES)
    reasoning = max(
        _largest(part, _REASONING) for part in (counts, *map(counts.get, _OUTPUT_DETAILS))
    )
    total = _largest(counts, _TOTAL)
    if not prompt and not completion:
        prompt = total
    left_out = cached + written
    if left_out > prompt > 0 or (left_out and left_out == total - prompt - completion):
        prompt += left_out
    if reasoning > completion > 0:
        completion += reasoning
    if (hidden := total - prompt - completion) > 0:
        completion += hidden
        reasoning = max(reasoning, hidden)
    return _usage(
        prompt, completion, cached=min(cached, prompt), reasoning=min(reasoning, completion)
    )


def merged(before: dict[str, Any] | None, counts: dict[str, Any]) -> dict[str, Any]:
    """Merges the token counts of several chunks of a stream; each count is the maximum.

    Some servers send the input count only in the first chunk, or send only zeros in the last chunk.
    """
    found = {**(before or {}), **counts}
    for name, old in (before or {}).items():
        new = counts.get(name)
        if isinstance(old, dict):
            found[name] = merged(old, new if isinstance(new, dict) else {})
        elif isinstance(old, int | float):
            found[name] = max(old, new) if isinstance(new, int | float) else old
    return found


def total(usages: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the sum of `usage` objects, or None if there is none."""
    if not usages:
        return None
    return _usage(
        sum(one["input_tokens"] for one in usages),
        sum(one["output_tokens"] for one in usages),
        cached=sum(one["input_tokens_details"]["cached_tokens"] for one in usages),
        reasoning=sum(one["output_tokens_details"]["reasoning_tokens"] for one in usages),
    )


def estimated(prompt: int, answer: int) -> dict[str, Any]:
    """Estimates the `usage` of a model call that ended before the provider sent the usage.

    `prompt` is the length of the prompt in characters, and `answer` the size of the answer in
    bytes.
    """
    return _usage(-(-prompt // CHARACTERS_A_TOKEN), -(-answer // CHARACTERS_A_TOKEN))


def _usage(prompt: int, completion: int, *, cached: int = 0, reasoning: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + completion,
    }


def _largest(counts: Any, names: tuple[str, ...]) -> int:
    if not isinstance(counts, dict):
        return 0
    most = 0
    for name in names:
        if name in counts:
            most = max(most, _count(counts[name]))
    return most


def _count(given: Any) -> int:
    """Returns a token count, which may be a number or a string, or 0 if there is none."""
    value = integer(given)
    return value if value is not None and 0 <= value < _MAX_COUNT else 0
