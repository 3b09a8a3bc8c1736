"""Translates the body of a chat completion into the body of a response, for older clients.

    messages                 input: messages, function calls and their results
    max_completion_tokens    max_output_tokens; the older max_tokens too
    response_format          text.format
    reasoning_effort         reasoning.effort; verbosity is text.verbosity
    tools, tool_choice       the same, without the nesting
    logprobs, top_logprobs   include, top_logprobs
    stop, seed               holdline_stop, holdline_seed: not in the standard

A parameter that a response does not support is refused with an error that names it; none is
silently ignored. This module checks only the shapes of values. `request.parse_create` checks the
values themselves, and `named` translates the field in its errors back to the chat body's name.
"""

from __future__ import annotations

import re
from typing import Any, Final

from server.api.problem import Problem, invalid

from .chat_messages import items
from .shapes import flag, listing, mapping, other_type, unsupported

Json = dict[str, Any]

_SAME: Final = frozenset(
    {
        "model",
        "temperature",
        "top_p",
        "presence_penalty",
        "frequency_penalty",
        "top_logprobs",
        "metadata",
        "store",
        "stream",
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "moderation",
        "service_tier",
        "parallel_tool_calls",
        "idempotency_key",
    }
)
# The parameters that a response does not support, each with the values that are accepted because
# they have no effect.
NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "audio": (),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "web_search_options": (),
}
TRANSLATED: Final = frozenset(
    {
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "response_format",
        "reasoning_effort",
        "verbosity",
        "tools",
        "tool_choice",
        "logprobs",
        "stop",
        "seed",
        "stream_options",
    }
)
_STREAM_OPTIONS: Final = frozenset(
    {
        "include_usage",
        "include_obfuscation",
        "continuous_usage_stats",  # a vLLM option; usage is only sent at the end
    }
)
LOGPROBS: Final = "message.output_text.logprobs"
# Patterns of a response's field names, and their replacements in a chat body. They are applied
# after an item's index was replaced by its message's place in the chat body.
_RENAMED: Final = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^text\.format\.(?!type)", "response_format.json_schema."),
        (r"^text\.format", "response_format"),
        (r"^text\.verbosity", "verbosity"),
        (r"^reasoning\.effort", "reasoning_effort"),
        (r"^input$", "messages"),
        (r"^holdline_(stop|seed)", r"\1"),
        (r"^(tools\[\d+\])\.(?!type)", r"\1.function."),
        (r"^tool_choice\.(mode|tools)", r"tool_choice.allowed_tools.\1"),
        (r"^(tool_choice.*)\.name$", r"\1.function.name"),
        (r"(tool_calls\[\d+\])\.call_id$", r"\1.id"),
        (r"(tool_calls\[\d+\])\.(name|arguments)$", r"\1.function.\2"),
        (r"^(messages\[\d+\])\.call_id$", r"\1.tool_call_id"),
        (r"^(messages\[\d+\])\.output", r"\1.content"),
        (r"^(messages.*)\.image_url$", r"\1.image_url.url"),
        (r"^(messages.*)\.detail$", r"\1.image_url.detail"),
        (r"^(messages.*)\.(file_data|filename)$", r"\1.file.\2"),
    )
)


class Translation:
    """A chat body, translated into the body of a response.

    `usage` is True if a stream must end with a chunk that contains token counts. `obfuscated` is
    True if the chunks are padded. Raises: Problem.
    """

    def __init__(self, chat: Json) -> None:
        self._limit = "max_completion_tokens"
        for name, value in chat.items():
            _known(name, value)
        self.body: Json = {name: value for name, value in chat.items() if name in _SAME}
        found = items(chat.get("messages"))
        self.body["input"] = [item for item, _ in found]
        self._places = [place for _, place in found]
        self._settings(chat)
        options = chat.get("stream_options")
        told = {} if options is None else _options(mapping(options, "stream_options"))
        self.usage = told.get("include_usage") is True
        self.obfuscated = told.get("include_obfuscation") is True

    def named(self, problem: Problem) -> Problem:
        """Replaces the name of a response's field in a problem by the chat body's name for it."""
        old = problem.param
        if old is None:
            return problem
        new = self._name(old)
        problem.param, problem.message = new, problem.message.replace(f"'{old}'", f"'{new}'")
        return problem

    def _name(self, param: str) -> str:
        if param == "max_output_tokens":
            return self._limit
        if found := re.match(r"input\[(\d+)\]", param):
            param = self._places[int(found[1])] + param[found.end() :]
        for pattern, name in _RENAMED:
            param = pattern.sub(name, param)
        return param

    def _settings(self, chat: Json) -> None:
        given = {name: value for name, value in chat.items() if value is not None}
        # The newer name takes precedence.
        for name in ("max_tokens", "max_completion_tokens"):
            if name in given:
                self.body["max_output_tokens"], self._limit = given[name], name
        if "reasoning_effort" in given:
            self.body["reasoning"] = {"effort": given["reasoning_effort"]}
        text: Json = {}
        if "response_format" in given:
            text["format"] = _format(mapping(given["response_format"], "response_format"))
        if "verbosity" in given:
            text["verbosity"] = given["verbosity"]
        if text:
            self.body["text"] = text
        if "tools" in given:
            self.body["tools"] = [
                _function(tool, f"tools[{index}]")
                for index, tool in enumerate(listing(given["tools"], "tools"))
            ]
        if "tool_choice" in given:
            self.body["tool_choice"] = _choice(given["tool_choice"])
        if (stop := given.get("stop", [])) not in ("", []):
            self.body["holdline_stop"] = [stop] if isinstance(stop, str) else stop
        if "seed" in given:
            self.body["holdline_seed"] = given["seed"]
        if "logprobs" in given and flag(given["logprobs"], "logprobs"):
            self.body["include"] = [LOGPROBS]
        elif given.get("top_logprobs"):
            raise invalid("top_logprobs", "'top_logprobs' requires 'logprobs' to be true.")


def _known(name: str, value: Any) -> None:
    if name in _SAME or name in TRANSLATED:
        return
    if name not in NEUTRAL:
        raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
    if value is not None and value not in NEUTRAL[name]:
        raise unsupported(name)


def _options(options: Json) -> Json:
    for name, value in options.items():
        if value is not None and name not in _STREAM_OPTIONS:
            raise unsupported(f"stream_options.{name[:64]}")
        if value is not None:
            flag(value, f"stream_options.{name}")
    return options


def _format(wanted: Json) -> Json:
    if wanted.get("type") != "json_schema":
        return wanted
    schema = mapping(wanted.get("json_schema"), "response_format.json_schema")
    return {**schema, "type": "json_schema"}


def _function(tool: Any, place: str) -> Json:
    tool = mapping(tool, place)
    if tool.get("type") != "function":
        raise other_type(place, ("function",))
    return {**mapping(tool.get("function"), f"{place}.function"), "type": "function"}


def _choice(choice: Any) -> Any:
    match choice:
        case str():
            return choice
        case {"type": "function", "function": {"name": name}}:
            return {"type": "function", "name": name}
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}:
            return {"type": "allowed_tools", "mode": mode, "tools": [_choice(t) for t in tools]}
        case _:
            raise invalid(
                "tool_choice",
                "'tool_choice' must be none, auto, required, a function or allowed_tools.",
            )
