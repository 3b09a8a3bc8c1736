"""Converts a request of the Responses API to the arguments of a chat completion.

The parameters become these arguments:

    instructions              a system message at the beginning
    context                   the messages of earlier turns, oldest first
    input                     the messages of this turn
    temperature, top_p, ...   arguments with the same names
    max_output_tokens         max_tokens or max_completion_tokens
    tools, tool_choice        functions with the names that `toolbox` gives to the tools
    text.format               response_format
    reasoning.effort          reasoning_effort
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from worker.upstream.provider_data import own

from .messages import UnsupportedInput, messages
from .tool_history import KNOWN_TYPES, as_functions
from .toolbox import Toolbox

if TYPE_CHECKING:
    from jobs.record import Job

# The two names of the argument that limits the output. Every compatible server accepts the old name
# `max_tokens`, and few accept the new name `max_completion_tokens`. OpenAI's own endpoint accepts
# both, but its reasoning models refuse the old name.
LIMIT: Final = "max_tokens"
OPENAI_LIMIT: Final = "max_completion_tokens"
LOGPROBS: Final = "message.output_text.logprobs"

# Maps the name of a request parameter to the name of the argument.
_SAMPLING: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "holdline_stop": "stop",
    "holdline_seed": "seed",
}


# The host names of OpenAI, which includes its regional hosts, and of Azure in each of its clouds.
_OPENAI_HOSTS: Final = (
    ".api.openai.com",
    *(
        f".{service}.azure.{cloud}"
        for service in ("openai", "cognitiveservices", "services.ai")
        for cloud in ("com", "us", "cn")
    ),
)


def limit_name(base_url: str | None) -> str:
    """Returns the name of the argument that limits the output at an endpoint.

    A `base_url` of None means OpenAI's own endpoint.
    """
    host = urlsplit(base_url).hostname if base_url else "api.openai.com"
    return OPENAI_LIMIT if f".{host}".endswith(_OPENAI_HOSTS) else LIMIT


def completion(
    job: Job,
    *,
    default_model: str,
    limit: str = LIMIT,
    asked: str = "",
    drops_tools: bool = False,
) -> dict[str, Any]:
    """Returns the arguments for `POST /chat/completions`, with streaming and usage enabled.

    `limit` is the name of the argument that limits the output. `asked` is the name of the called
    model, or empty if the request names the called model. `drops_tools` is True if tools that no
    function can express are left out.

    Raises: UnsupportedInput.
    """
    params = job.params
    named = params.get("model") or default_model
    toolbox = Toolbox.of(job)
    if toolbox.unsupported and not drops_tools:
        raise UnsupportedInput(f"tools of type {toolbox.unsupported[0]} are not supported")
    arguments: dict[str, Any] = {
        "model": named,
        "messages": messages(
            as_functions([own(item, asked or named, named) for item in _items(job)], toolbox)
        ),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name, argument in _SAMPLING.items():
        if params.get(name) is not None:
            arguments[argument] = params[name]
    if params.get("max_output_tokens") is not None:
        arguments[limit] = params["max_output_tokens"]
    if LOGPROBS in (params.get("include") or ()):
        arguments |= {"logprobs": True, "top_logprobs": params.get("top_logprobs") or 0}
    if effort := (params.get("reasoning") or {}).get("effort"):
        arguments["reasoning_effort"] = effort
    return arguments | _tools(params, toolbox) | _text(params.get("text") or {})


def characters(arguments: dict[str, Any]) -> int:
    """Returns the number of characters of text in the messages of a request's arguments."""
    return sum(len(_text_of(message["content"])) for message in arguments["messages"])


def _text_of(content: str | list[dict[str, Any]] | None) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content)
    return content or ""


def _items(job: Job) -> list[dict[str, Any]]:
    params = job.params
    asked = params.get("input", "")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    rules = params.get("instructions")
    first = [{"role": "system", "content": rules}] if rules else []
    # In an earlier turn, another model's endpoint may have run its own tools. The items of such
    # tools, and references to them in the input, are left out.
    said = [one for one in [*job.context, *items] if one.get("type", "message") in KNOWN_TYPES]
    return [*first, *said]


def _tools(params: dict[str, Any], toolbox: Toolbox) -> dict[str, Any]:
    choice = toolbox.chosen
    # If `tool_choice` is `none`, all tools are sent, because an earlier turn may have called one of
    # them.
    shown = toolbox.tools if choice == "none" else toolbox.allowed
    if not shown:
        # The endpoint would answer without the tool that the request requires.
        if toolbox.unsupported and _requires_tool(choice):
            raise UnsupportedInput("tool_choice requires a tool that is not supported")
        return {}
    arguments: dict[str, Any] = {"tools": toolbox.described(shown)}
    match choice:
        case str():
            arguments["tool_choice"] = choice
        case {"type": "allowed_tools", "mode": mode}:
            arguments["tool_choice"] = mode
        case dict():
            named = {"name": shown[0].function}
            arguments["tool_choice"] = {"type": "function", "function": named}
        case _:
            pass
    if params.get("parallel_tool_calls") is not None:
        arguments["parallel_tool_calls"] = params["parallel_tool_calls"]
    return arguments


def _requires_tool(choice: Any) -> bool:
    match choice:
        case {"type": "allowed_tools", "mode": mode}:
            return bool(mode == "required")
        case _:
            return choice == "required" or isinstance(choice, dict)


def _text(text: dict[str, Any]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    wanted = text.get("format") or {"type": "text"}
    match wanted["type"]:
        case "json_schema":
            arguments["response_format"] = {"type": "json_schema", "json_schema": _given(wanted)}
        case "json_object":
            arguments["response_format"] = {"type": "json_object"}
        case _:
            pass
    if text.get("verbosity"):
        arguments["verbosity"] = text["verbosity"]
    return arguments


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields of an object without its type and without null values."""
    return {name: value for name, value in fields.items() if name != "type" and value is not None}
