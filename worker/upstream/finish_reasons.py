"""Reasons for stopping, in the words of many servers -> those of chat completions.

stop             the model said all that it wanted to
tool_calls       it waits for the results of its calls
length           a limit of tokens cut the answer
content_filter   a filter cut it
error, busy      the server, or the model, failed in mid-answer
unknown          any other word

Words for filters are many and new ones come, so those that no server is known for count by a part
of them. Nothing else is guessed: an answer is complete only for a word that is known to say so.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .deltas import Malformed

_WORDS: Final = {
    "stop": "stop eos eos_token end end_turn end_of_turn end_of_text endoftext stop_sequence "
    "stop_token stopped complete completed done finish finished",
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "length": "length max_tokens max_token max_output_tokens max_completion_tokens max_new_tokens "
    "max_length model_length token_limit context_length model_context_window_exceeded "
    "max_tokens_reached length_limit error_limit time_limit",
    "content_filter": "recitation language spii refusal refused guardrail_intervened blocked",
    "error": "error network_error internal_error abort aborted cancelled canceled user_cancel "
    "timeout malformed_function_call malformed_tool_use malformed_model_output "
    "unexpected_tool_call",
    "busy": "insufficient_system_resource overloaded engine_overloaded",
}
_NORMALIZED: Final = {word: reason for reason, words in _WORDS.items() for word in words.split(" ")}
_FILTERS: Final = re.compile(
    r"filter|safety|unsafe|toxic|blocklist|prohibit|sensitive|moderat|censor|harmful|violation"
)
_NOT_YET: Final = frozenset(
    {"", "null", "none", "unspecified", "reason_unspecified", "not_finished", "in_progress"}
)
_PREFIXES: Final = ("finishreason.", "finish_reason.", "finish_reason_")


def normalized(reason: Any) -> str | None:
    """Returns the reason in the words of chat completions, or None if it says "not yet".

    Raises: Malformed.
    """
    if isinstance(reason, dict):  # SGLang's own form: {"type": "stop", "matched": …}
        reason = reason.get("type")
    if not reason:
        return None
    if not isinstance(reason, str):
        raise Malformed("a reason that is not a string")
    word = reason.strip().casefold().replace("-", "_").replace(" ", "_")
    for prefix in _PREFIXES:
        word = word.removeprefix(prefix)
    if word in _NOT_YET:
        return None
    usual = "content_filter" if _FILTERS.search(word) else "unknown"
    return _NORMALIZED.get(word, usual)
