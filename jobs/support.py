"""The table of the standard's parameters, tools, tool choices, items and `include` values.

Each row states the support for a name by models whose endpoint has the chat-completions API, and by
models whose endpoint has the Responses API. Tests compare the table with the types of the official
Python SDK, and the tables of docs/protocol-reference.md with this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Support(StrEnum):
    """The support for a parameter, a tool, a tool choice, an item or an `include` value."""

    SUPPORTED = "supported"  # Holdline implements it
    PASSED = "passed on"  # the model's endpoint gets it unchanged
    HINT = "no effect"  # accepted, because the standard allows a server to ignore it
    REFUSED = "refused"


SUPPORTED, PASSED, HINT, REFUSED = Support


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the support with each kind of endpoint, and a note for users.

    If a value is refused, the note says why, or what to use instead. `standard` is False for a name
    that the SDK's types lack.
    """

    chat: Support
    responses: Support
    note: str = ""
    standard: bool = True


def _both(support: Support, note: str = "", *, standard: bool = True) -> Row:
    return Row(support, support, note, standard)


_PROVIDER: Final = Row(REFUSED, PASSED, "only a provider can run this tool")

PARAMETERS: Final[dict[str, Row]] = {
    "access_programs": Row(
        REFUSED, PASSED, "names a provider's own programs; use a model that supports it"
    ),
    "background": _both(SUPPORTED),
    "background_options": _both(
        HINT,
        "`completion_window` must be `soonest`; for a later completion, use `service_tier: flex`",
    ),
    "client_metadata": _both(HINT, "contains data about the client program", standard=False),
    "context_management": Row(
        SUPPORTED,
        PASSED,
        "with a chat-completions endpoint, or if an endpoint refuses the parameter, the model "
        "writes the summary in a call of its own",
    ),
    "conversation": _both(SUPPORTED),
    "frequency_penalty": _both(PASSED, standard=False),
    "holdline": _both(
        SUPPORTED,
        "`previous_response_id` names the turn of the `conversation` that the request continues",
        standard=False,
    ),
    "holdline_seed": Row(
        PASSED, REFUSED, "the Responses API has no such parameter", standard=False
    ),
    "holdline_stop": Row(
        PASSED, REFUSED, "the Responses API has no such parameter", standard=False
    ),
    "idempotency_key": _both(SUPPORTED, standard=False),
    "image": Row(
        HINT,
        PASSED,
        "a chat-completions model has no context compression, so the server refuses `image` "
        "with `context_compression: enabled`",
    ),
    "include": Row(SUPPORTED, PASSED),
    "input": _both(SUPPORTED),
    "instructions": _both(PASSED),
    "max_output_tokens": _both(PASSED),
    "max_tool_calls": Row(HINT, PASSED, "limits the calls to tools that a provider runs"),
    "metadata": _both(SUPPORTED),
    "model": _both(SUPPORTED),
    "moderation": Row(
        REFUSED, PASSED, "needs a provider's own service; use a model that supports it"
    ),
    "parallel_tool_calls": _both(PASSED),
    "presence_penalty": _both(PASSED, standard=False),
    "previous_response_id": _both(SUPPORTED),
    "prompt": _both(SUPPORTED),
    "prompt_cache_key": Row(HINT, PASSED),
    "prompt_cache_options": Row(
        HINT,
        PASSED,
        "if `prewarm` is true, the response ends at once, without output and without a model call; "
        "the server does not pass on `comparison_response_id`",
    ),
    "prompt_cache_retention": Row(HINT, PASSED),
    "reasoning": Row(
        PASSED,
        PASSED,
        "a chat-completions endpoint gets only `effort`; the other members have no effect there",
    ),
    "safety_identifier": Row(HINT, PASSED),
    "service_tier": _both(SUPPORTED, "sets the priority in the queue"),
    "store": _both(SUPPORTED),
    "stream": _both(SUPPORTED),
    "stream_options": _both(SUPPORTED),
    "temperature": _both(PASSED),
    "text": _both(PASSED),
    "tool_choice": Row(SUPPORTED, PASSED),
    "tools": Row(SUPPORTED, PASSED),
    "top_logprobs": _both(PASSED),
    "top_p": _both(PASSED),
    "truncation": _both(SUPPORTED),
    "user": Row(HINT, PASSED),
}

_FUNCTION: Final = Row(
    SUPPORTED, PASSED, "a chat-completions endpoint gets a function with the same meaning"
)

TOOLS: Final[dict[str, Row]] = {
    "apply_patch": _FUNCTION,
    "code_interpreter": _PROVIDER,
    "computer": _PROVIDER,
    "computer_use_preview": _PROVIDER,
    "custom": Row(
        SUPPORTED,
        PASSED,
        "a chat-completions endpoint gets a function with one parameter, the string `input`",
    ),
    "file_search": _PROVIDER,
    "function": Row(SUPPORTED, PASSED),
    "image_generation": _PROVIDER,
    "local_shell": _FUNCTION,
    "mcp": _PROVIDER,
    "namespace": Row(
        SUPPORTED,
        PASSED,
        "a chat-completions endpoint gets functions whose names contain the namespace",
    ),
    "programmatic_tool_calling": _PROVIDER,
    "shell": Row(
        SUPPORTED,
        PASSED,
        "a chat-completions endpoint gets a function; for such an endpoint, the server refuses any "
        "`environment` except `local`",
    ),
    "tool_search": Row(
        SUPPORTED,
        PASSED,
        "a chat-completions endpoint gets all tools at once, including deferred ones, and with "
        "`execution: client` also a function that searches for tools",
    ),
    "web_search": _PROVIDER,
    "web_search_2025_08_26": _PROVIDER,
    "web_search_preview": _PROVIDER,
    "web_search_preview_2025_03_11": _PROVIDER,
}

TOOL_CHOICES: Final[dict[str, Row]] = {
    "allowed_tools": Row(SUPPORTED, PASSED, "each entry must match one of `tools`"),
    "apply_patch": Row(SUPPORTED, PASSED),
    "auto": _both(PASSED),
    "code_interpreter": _PROVIDER,
    "computer": _PROVIDER,
    "computer_use": _PROVIDER,
    "computer_use_preview": _PROVIDER,
    "custom": Row(SUPPORTED, PASSED),
    "file_search": _PROVIDER,
    "function": Row(SUPPORTED, PASSED),
    "image_generation": _PROVIDER,
    "mcp": _PROVIDER,
    "none": _both(PASSED),
    "programmatic_tool_calling": _PROVIDER,
    "required": _both(PASSED),
    "shell": Row(SUPPORTED, PASSED),
    "web_search_preview": _PROVIDER,
    "web_search_preview_2025_03_11": _PROVIDER,
}


@dataclass(frozen=True, slots=True)
class ItemRow(Row):
    """A row for an input item.

    `prefix` is the first part of the item's id. `needs_id` is True if an endpoint requires the id.
    """

    prefix: str = ""
    needs_id: bool = False


def _known(prefix: str, note: str = "") -> ItemRow:
    return ItemRow(SUPPORTED, PASSED, note, prefix=prefix)


def _hosted(prefix: str, note: str = "", *, needs_id: bool = True) -> ItemRow:
    return ItemRow(
        REFUSED,
        PASSED,
        note or "only a provider can handle this item",
        prefix=prefix,
        needs_id=needs_id,
    )


_SEARCHES: Final = "a chat-completions endpoint gets only the searches that the client ran"

ITEMS: Final[dict[str, ItemRow]] = {
    "additional_tools": _known(
        "at", "a chat-completions endpoint gets these tools with those in `tools`"
    ),
    "apply_patch_call": _known("apc"),
    "apply_patch_call_output": _known("apco"),
    "code_interpreter_call": _hosted("ci"),
    "compaction": _known(
        "cmp",
        "every model can read the items that Holdline created; the item of a provider is passed on "
        "to endpoints with the Responses API, and otherwise refused",
    ),
    "compaction_trigger": _known("ct", "must be the last item"),
    "computer_call": _hosted("cu"),
    "computer_call_output": _hosted("cuo", needs_id=False),
    "configuration_update": _hosted("cfg", "send the changed parameters instead", needs_id=False),
    "custom_tool_call": _known("ctc"),
    "custom_tool_call_output": _known("ctco"),
    "file_search_call": _hosted("fs"),
    "function_call": _known("fc"),
    "function_call_output": _known("fco"),
    "image_generation_call": _hosted("ig"),
    "item_reference": ItemRow(SUPPORTED, SUPPORTED, "the server replaces it with the item"),
    "local_shell_call": ItemRow(SUPPORTED, PASSED, prefix="lsh", needs_id=True),
    "local_shell_call_output": ItemRow(SUPPORTED, PASSED, prefix="lsho", needs_id=True),
    "mcp_approval_request": _hosted("mcpr"),
    "mcp_approval_response": _hosted("mcpa", needs_id=False),
    "mcp_call": _hosted("mcp"),
    "mcp_list_tools": _hosted("mcpl"),
    "message": _known("msg"),
    "program": _hosted("prog"),
    "program_output": _hosted("po"),
    "reasoning": _known(
        "rs",
        "a chat-completions endpoint gets only the text, if its provider expects reasoning back",
    ),
    "shell_call": _known("sh"),
    "shell_call_output": _known("sho"),
    "tool_search_call": _known("tsc", _SEARCHES),
    "tool_search_output": _known("tso", f"{_SEARCHES}, and the tools that they found"),
    "web_search_call": _hosted("ws"),
}

_NO_CALLS: Final = Row(HINT, PASSED, "concerns the output of a tool that a provider runs")

INCLUDES: Final[dict[str, Row]] = {
    "code_interpreter_call.outputs": _NO_CALLS,
    "computer_call_output.output.image_url": _NO_CALLS,
    "file_search_call.results": _NO_CALLS,
    "message.input_image.image_url": Row(HINT, PASSED, "`input_items` always contains the URLs"),
    "message.output_text.logprobs": Row(SUPPORTED, PASSED),
    "reasoning.encrypted_content": Row(
        HINT, PASSED, "a chat-completions endpoint sends readable reasoning"
    ),
    "web_search_call.action.sources": _NO_CALLS,
    "web_search_call.results": _NO_CALLS,
}
