"""Reasons for stopping, in the words of many servers -> those of chat completions.

stop             the model said all that it wanted to
tool_calls       it waits for the results of its calls
length           a limit of tokens cut the answer
content_filter   a filter cut it
error, busy      the server failed in mid-answer
unknown          any other word
"""

from __future__ import annotations

from typing import Any, Final

from .deltas import Malformed

_WORDS: Final = {
    "stop": "stop eos eos_token end end_turn end_of_turn end_of_text endoftext stop_sequence "
    "stop_token stopped complete completed done finish finished",
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "length": "length max_tokens max_token max_output_tokens max_completion_tokens max_new_tokens "
    "max_length model_length token_limit context_length model_context_window_exceeded",
    "content_filter": "content_filter content_filtered filtered safety image_safety recitation "
    "blocklist prohibited_content spii sensitive refusal guardrail_intervened blocked error_toxic",
    "error": "error network_error internal_error",
    "busy": "insufficient_system_resource",
}
_NORMALIZED: Final = {word: reason for reason, words in _WORDS.items() for word in words.split(" ")}
_NOT_YET: Final = frozenset({"", "null", "none", "unspecified"})
_PREFIXES: Final = ("finishreason.", "finish_reason.", "finish_reason_")


def normalized(reason: Any) -> str | None:
    """Returns the reason in the words of chat completions, or None if it says "not yet".

    Raises: Malformed.
    """
    if isinstance(reason, dict):  # SGLang's own form: {"type": "stop", "matched": …}
        reason = reason.get("type")
    if reason is None:
        return None
    if not isinstance(reason, str):
        raise Malformed("a reason that is not a string")
    word = reason.strip().casefold().replace("-", "_").replace(" ", "_")
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    return None if word in _NOT_YET else _NORMALIZED.get(word, "unknown")
