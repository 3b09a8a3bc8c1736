"""The fast path of nearly every payload: a piece of text and nothing else.

Only the fields that could say more are looked at, in one pass that builds no dictionary. What is
not of this form, in whatever way, is for `chunks` to judge: there is nothing that is wrong here.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct


class _Delta(Struct):
    content: Annotated[str, Meta(min_length=1)]
    reasoning_content: None = None
    reasoning: None = None
    reasoning_details: None = None
    reasoning_text: None = None
    thinking: None = None
    thinking_blocks: None = None
    refusal: None = None
    function_call: None = None
    tool_calls: None = None
    annotations: None = None


class _Choice(Struct):
    delta: _Delta
    finish_reason: Literal[""] | None = None
    finishReason: None = None  # noqa: N815 - Gemini's
    stop_reason: None = None
    error: None = None
    logprobs: None = None
    usage: None = None


class _Chunk(Struct):
    choices: tuple[_Choice]
    error: None = None
    usage: None = None
    x_groq: None = None


_DECODER: Final = msgspec.json.Decoder(_Chunk)


def decode_text(payload: bytes) -> str | None:
    """Returns the text of a payload with nothing else, or None. The text can be encoded."""
    try:
        return _DECODER.decode(payload).choices[0].delta.content
    except (ValueError, RecursionError):
        return None
