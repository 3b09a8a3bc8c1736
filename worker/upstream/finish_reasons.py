"""Normalizes the stop reasons of many servers to the names of chat completions.

    stop             the model finished its answer
    tool_calls       the model waits for the results of its calls
    length           a token limit truncated the answer
    content_filter   a content filter truncated the answer
    error, busy      the server or the model failed during the answer
    unknown          any other reason

Servers spell the same stop reason in different ways, so case and separators are ignored. Servers
also add new reasons for filters and length limits, so these two kinds of reasons are recognized by
parts of their names. No other reason is guessed. An answer counts as complete only if its stop
reason is known to mean so.
"""

from __future__ import annotations

import re
from typing import Any, Final

from .deltas import Malformed

_WORDS: Final = {
    "stop": "stop eos eostoken eosid eot eotid endofsequence imend end endturn endofturn endoftext "
    "stopsequence stopstring stoptoken stopword stopped complete completed done finish finished",
    "tool_calls": "tool tools toolcall toolcalls tooluse functioncall functioncalls",
    "length": "errorlimit timelimit modelcontextwindowexceeded",
    "content_filter": "recitation language spii refusal refused guardrailintervened blocked",
    "error": "error networkerror internalerror abort aborted cancelled canceled usercancel timeout "
    "malformedfunctioncall malformedtooluse malformedmodeloutput unexpectedtoolcall "
    "toomanytoolcalls",
    "busy": "insufficientsystemresource overloaded engineoverloaded",
    "": "null none unspecified notfinished inprogress",
}
_NORMALIZED: Final = {word: reason for reason, words in _WORDS.items() for word in words.split(" ")}
_FILTERS: Final = re.compile(
    r"filter|safety|unsafe|toxic|b(?:lock|lack)list|prohibit|sensitive|moderat|censor|harmful"
    r"|violation|armor"
)
_LIMITS: Final = re.compile(r"length|max[a-z]*(?:token|len|output)|(?:token|output|context)s?limit")
_SEPARATORS: Final = re.compile(r"[\W_]")
_PREFIX: Final = re.compile(r"^(?:finish)?reason")


def normalized(reason: Any) -> str | None:
    """Returns a normalized stop reason, or None if the answer has not stopped yet.

    Raises: Malformed.
    """
    if isinstance(reason, dict):  # SGLang sends {"type": "stop", "matched": …}
        reason = reason.get("type")
    if not reason:
        return None
    if not isinstance(reason, str):
        raise Malformed("the finish reason is not a string")
    words = _letters(reason)
    # Gemini appends a detail to the reason, as in "function_call_filter: MALFORMED_FUNCTION_CALL".
    known = _NORMALIZED.get(_letters(reason.rpartition(":")[2]), _NORMALIZED.get(words))
    if known is not None or not words:
        return known or None
    if _FILTERS.search(words):
        return "content_filter"
    return "length" if _LIMITS.search(words) else "unknown"


def _letters(word: str) -> str:
    return _PREFIX.sub("", _SEPARATORS.sub("", word.casefold()))
