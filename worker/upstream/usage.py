"""What an answer cost, in the standard's words."""

from __future__ import annotations

from typing import Any, Final

from jobs.tokens import CHARACTERS_A_TOKEN

_MAX_COUNT: Final = 2**53

# What a count is called: by chat completions, by the standard, and by some servers' own habit.
_INPUT: Final = ("prompt_tokens", "input_tokens")
_OUTPUT: Final = ("completion_tokens", "output_tokens")
_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details")
_CACHED: Final = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
_REASONING: Final = ("reasoning_tokens",)


def counted(counts: dict[str, Any]) -> dict[str, Any]:
    """The standard's `usage` of a provider's counts.

    Some servers send both pairs of names, one of them as zeros: the larger count is the true one.
    Where the total exceeds the sum of both, the rest is reasoning that the provider left out of the
    output, and it was generated all the same.
    """
    prompt, completion = _largest(counts, _INPUT), _largest(counts, _OUTPUT)
    cached = max(_largest(counts.get(name), _CACHED) for name in _INPUT_DETAILS)
    reasoning = max(_largest(counts.get(name), _REASONING) for name in _OUTPUT_DETAILS)
    total = _count(counts, "total_tokens")
    if not prompt and not completion:
        prompt = total
    if (hidden := total - prompt - completion) > 0:
        completion += hidden
        reasoning = max(reasoning, hidden)
    return _usage(
        prompt,
        completion,
        cached=min(max(cached, _largest(counts, _CACHED)), prompt),
        reasoning=min(max(reasoning, _largest(counts, _REASONING)), completion),
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
    """A count, 0 where there is none; whole numbers that are written as floats count as well."""
    value = counts.get(name) if isinstance(counts, dict) else None
    if not isinstance(value, int | float) or not 0 <= value < _MAX_COUNT or value != int(value):
        return 0
    return int(value)
