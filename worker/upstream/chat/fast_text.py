"""Decodes payloads that contain only a piece of text, which nearly all payloads do.

Decoding takes one pass and builds no dictionary. The decoder checks only the fields that could have
other content. All other payloads, valid or not, are left to the module `chunks`, so this module
reports no errors.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections import deque


class _Reasons(Struct):
    finishReason: None = None  # noqa: N815 - a name of Gemini
    stop_reason: None = None
    stopReason: None = None  # noqa: N815 - a name of Bedrock
    done_reason: None = None


class _Delta(_Reasons, kw_only=True):
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
    finish_reason: Literal[""] | None = None


class _Choice(_Reasons, kw_only=True):
    delta: _Delta
    index: Literal[0] | None = None
    finish_reason: Literal[""] | None = None
    error: None = None
    logprobs: None = None
    usage: None = None


class _Chunk(_Reasons, kw_only=True):
    choices: tuple[_Choice]
    finish_reason: Literal[""] | None = None
    error: None = None
    usage: None = None
    x_groq: None = None


_DECODER: Final = msgspec.json.Decoder(_Chunk)


def take_texts(payloads: deque[bytes]) -> list[str]:
    """Removes the first payloads that contain only text, and returns their texts.

    The first payload that remains, if any, has other content. The texts have no lone surrogates,
    which UTF-8 cannot encode.
    """
    texts = []
    with contextlib.suppress(ValueError, RecursionError):
        while payloads:
            texts.append(_DECODER.decode(payloads[0]).choices[0].delta.content)
            payloads.popleft()
    return texts
