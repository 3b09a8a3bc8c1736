"""What an answer cost, in the standard's words."""

from __future__ import annotations

from typing import Any

from jobs.tokens import CHARACTERS_A_TOKEN


def counted(counts: dict[str, Any]) -> dict[str, Any]:
    """The standard's `usage` of what a provider counted, in its words or the standard's own."""
    if "input_tokens" in counts:
        return _usage(
            _count(counts, "input_tokens"),
            _count(counts, "output_tokens"),
            cached=_count(counts.get("input_tokens_details"), "cached_tokens"),
            reasoning=_count(counts.get("output_tokens_details"), "reasoning_tokens"),
        )
    prompt = counts.get("prompt_tokens_details")
    completion = counts.get("completion_tokens_details")
    return _usage(
        _count(counts, "prompt_tokens"),
        _count(counts, "completion_tokens"),
        cached=_count(prompt, "cached_tokens"),
        reasoning=_count(completion, "reasoning_tokens"),
    )


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


def _count(counts: Any, name: str) -> int:
    value = counts.get(name) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and 0 <= value < 2**53 else 0
