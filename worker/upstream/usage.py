"""What an answer cost, in the standard's words."""

from __future__ import annotations

from typing import Any, Final

from jobs.tokens import CHARACTERS_A_TOKEN

from .deltas import integer

_MAX_COUNT: Final = 2**53

# What a count is called: by chat completions, by the standard, and by some servers' own habit.
_INPUT: Final = ("prompt_tokens", "input_tokens", "promptTokens", "inputTokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens", "completionTokens", "outputTokens")
_TOTAL: Final = ("total_tokens", "totalTokens")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_CACHED: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
_CACHE_WRITES: Final = ("cache_creation_input_tokens",)
_REASONING: Final = ("reasoning_tokens",)


def counted(counts: dict[str, Any]) -> dict[str, Any]:
    """The standard's `usage` of a provider's counts.

    Some servers send both pairs of names, one of them as zeros: the larger count is the true one.
    Cached input that exceeds the input was not included in it, nor was reasoning that exceeds the
    output. Where the total exceeds the sum of input and output, the difference is cached input if
    it has the same size, else reasoning; all of it was generated or read, so it counts.
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
    """Merges the counts of several frames of a stream; each count only grows.

    Some servers count the input only in the first frame, or end with a frame of zeros.
    """
    found = {**(before or {}), **counts}
    for name, old in (before or {}).items():
        new = counts.get(name)
        if isinstance(old, dict):
            found[name] = merged(old, new if isinstance(new, dict) else {})
        elif isinstance(old, int | float):
            found[name] = max(old, new) if isinstance(new, int | float) else old
    return found


def estimated(prompt: int, answer: int) -> dict[str, Any]:
    """The `usage` of a call that ended before its provider counted; arguments are characters."""
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
    return max(_count(counts, name) for name in names)


def _count(counts: Any, name: str) -> int:
    """A count, 0 where there is none; also one that is written as a float or as text."""
    value = integer(counts.get(name)) if isinstance(counts, dict) else None
    return value if value is not None and 0 <= value < _MAX_COUNT else 0
