"""The body of a chat completion -> the body of a response, for programs that know nothing newer.

    messages                 input: messages, calls of functions, and what came of them
    max_completion_tokens    max_output_tokens; the older max_tokens too
    response_format          text.format
    reasoning_effort         reasoning.effort; verbosity is text.verbosity
    tools, tool_choice       the same, without the nesting
    logprobs, top_logprobs   include, top_logprobs
    stop, seed               holdline_stop, holdline_seed: the standard has none

What a response has no place for is refused by name, and never ignored in silence. Only shapes are
looked at here; values are checked by `request.parse_create`, and `named` gives what it complains
of the name that the caller knows.
"""

from __future__ import annotations

import re
from typing import Any, Final

from server.api.problem import Problem, invalid

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
        "service_tier",
        "parallel_tool_calls",
        "idempotency_key",
    }
)
# What a response cannot do, each with the values that ask for nothing.
NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "audio": (),
    "function_call": (),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "prediction": (),
    "prompt_cache_options": (),
    "prompt_cache_retention": (),
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
        "continuous_usage_stats",  # vLLM's; usage is counted at the end alone
    }
)
LOGPROBS: Final = "message.output_text.logprobs"
_RENAMED: Final = (
    ("max_output_tokens", "max_completion_tokens"),
    ("text.format", "response_format"),
    ("text.verbosity", "verbosity"),
    ("reasoning.effort", "reasoning_effort"),
    ("input", "messages"),
    ("holdline_stop", "stop"),
    ("holdline_seed", "seed"),
)


class Translation:
    """A body in the terms of a response; `usage` says whether a stream ends with the count.

    Raises: Problem.
    """

    def __init__(self, chat: Json) -> None:
        self._places: list[str] = []
        self._limit = "max_completion_tokens"
        for name, value in chat.items():
            _known(name, value)
        self.body: Json = {name: value for name, value in chat.items() if name in _SAME}
        self.body["input"] = self._input(chat.get("messages"))
        self._settings(chat)
        options = _map(chat.get("stream_options") or {}, "stream_options")
        self.usage = options.get("include_usage") is True
        for name in options.keys() - _STREAM_OPTIONS:
            if options[name] is not None:
                raise _unsupported(f"stream_options.{name}")

    def named(self, problem: Problem) -> Problem:
        """The same problem in the terms of the chat body."""
        old = problem.param
        if old is None:
            return problem
        new = self._name(old)
        message = problem.message.replace(f"'{old}'", f"'{new}'")
        return Problem(
            problem.status,
            problem.code,
            message,
            param=new,
            retry_after=problem.retry_after,
        )

    def _name(self, param: str) -> str:
        if found := re.match(r"input\[(\d+)\](.*)", param, re.DOTALL):
            index = int(found[1])
            place = self._places[index] if index < len(self._places) else "messages"
            # The result of a call names it by another word there.
            return place + re.sub(r"^\.call_id$", ".tool_call_id", found[2])
        if param == "max_output_tokens":
            return self._limit
        for old, new in _RENAMED:
            if param == old or param.startswith((f"{old}.", f"{old}[")):
                return new + param[len(old) :]
        return param

    def _settings(self, chat: Json) -> None:
        limit = chat.get("max_completion_tokens")
        if limit is None and chat.get("max_tokens") is not None:
            limit, self._limit = chat["max_tokens"], "max_tokens"
        if limit is not None:
            self.body["max_output_tokens"] = limit
        if chat.get("reasoning_effort") is not None:
            self.body["reasoning"] = {"effort": chat["reasoning_effort"]}
        text: Json = {}
        if chat.get("response_format") is not None:
            text["format"] = _format(_map(chat["response_format"], "response_format"))
        if chat.get("verbosity") is not None:
            text["verbosity"] = chat["verbosity"]
        if text:
            self.body["text"] = text
        if chat.get("tools"):
            self.body["tools"] = [
                _function(tool, f"tools[{index}]")
                for index, tool in enumerate(_list(chat["tools"], "tools"))
            ]
        if chat.get("tool_choice") is not None:
            self.body["tool_choice"] = _choice(chat["tool_choice"])
        if stop := chat.get("stop"):
            self.body["holdline_stop"] = [stop] if isinstance(stop, str) else stop
        if chat.get("seed") is not None:
            self.body["holdline_seed"] = chat["seed"]
        if chat.get("logprobs"):
            self.body["include"] = [LOGPROBS]
        elif chat.get("top_logprobs"):
            raise invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")

    def _input(self, messages: Any) -> list[Json]:
        if messages is None:
            raise invalid("messages", "'messages' is required.", "missing_required_parameter")
        if not _list(messages, "messages"):
            raise invalid("messages", "'messages' must hold one message at least.")
        items: list[Json] = []
        for index, message in enumerate(messages):
            place = f"messages[{index}]"
            made = _items(_map(message, place), place)
            items += made
            self._places += [place] * len(made)
        return items


def _known(name: str, value: Any) -> None:
    if name in _SAME or name in TRANSLATED:
        return
    if name not in NEUTRAL:
        raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
    if value is not None and value not in NEUTRAL[name]:
        raise _unsupported(name)


def _items(message: Json, place: str) -> list[Json]:
    match message.get("role"):
        case "system" | "developer" | "user" as role:
            _only(message, place, {"role", "content", "name"})
            return [_message(role, _parts(message.get("content"), f"{place}.content"))]
        case "assistant":
            return _assistant(message, place)
        case "tool":
            _only(message, place, {"role", "content", "tool_call_id", "name"})
            call = message.get("tool_call_id")
            if not isinstance(call, str):
                raise _missing(f"{place}.tool_call_id")
            content = message.get("content")
            output = "" if content is None else _parts(content, f"{place}.content")
            for index, part in enumerate(output if isinstance(output, list) else ()):
                if part["type"] != "input_text":
                    raise _unsupported(f"{place}.content[{index}].type")
            return [{"type": "function_call_output", "call_id": call, "output": output}]
        case None:
            raise _missing(f"{place}.role")
        case _:
            known = "system, developer, user, assistant or tool"
            raise invalid(f"{place}.role", f"'{place}.role' must be {known}.")


# Fields in which providers send reasoning, and want it back.
_REASONING: Final = ("reasoning_content", "reasoning")
# Fields that client libraries or other providers add to a message of the model and send back with
# it. They repeat what is read elsewhere, or mean something to their author alone.
_ECHOED: Final = frozenset(
    {
        "annotations",
        "context",
        "extra_content",
        "images",
        "parsed",
        "provider_specific_fields",
        "reasoning_details",
        "thinking_blocks",
    }
)


def _assistant(message: Json, place: str) -> list[Json]:
    _only(
        message, place, {"role", "content", "name", "refusal", "tool_calls", *_REASONING, *_ECHOED}
    )
    items: list[Json] = []
    field = next((name for name in _REASONING if message.get(name)), None)
    if field is not None:
        parts = [{"type": "reasoning_text", "text": message[field]}]
        marked = {"holdline_field": field, **_maker(message.get("tool_calls"))}
        items.append({"type": "reasoning", "summary": [], "content": parts, **marked})
    content = message.get("content")
    parts = [] if content is None else _parts(content, f"{place}.content", "output_text")
    if isinstance(parts, str):
        parts = [{"type": "output_text", "text": parts}] if parts else []
    if refusal := message.get("refusal"):
        parts = [*parts, {"type": "refusal", "refusal": refusal}]
    if parts:
        items.append(_message("assistant", parts))
    for index, call in enumerate(_list(message.get("tool_calls") or [], f"{place}.tool_calls")):
        items.append(_call(call, f"{place}.tool_calls[{index}]"))
    return items or [_message("assistant", "")]


def _maker(calls: Any) -> Json:
    """The model that made the message, where one of its calls tells it."""
    for call in calls if isinstance(calls, list) else ():
        extra = call.get("extra_content") if isinstance(call, dict) else None
        if isinstance(extra, dict) and isinstance(extra.get("holdline_model"), str):
            return {"holdline_model": extra["holdline_model"]}
    return {}


def _call(call: Any, place: str) -> Json:
    call = _map(call, place)
    if (call.get("type") or "function") != "function":
        raise _unsupported(f"{place}.type")
    function = _map(call.get("function"), f"{place}.function")
    arguments = function.get("arguments")
    given = {"name": function.get("name"), "arguments": "" if arguments is None else arguments}
    extra = call.get("extra_content")  # of the provider, which wants it back
    own = {} if extra is None else {"extra_content": extra}
    return {"type": "function_call", "call_id": call.get("id"), **given, **own}


def _parts(content: Any, place: str, text: str = "input_text") -> Any:
    if isinstance(content, str):
        return content
    if content is None:
        raise _missing(place)
    return [
        _part(_map(part, f"{place}[{index}]"), f"{place}[{index}]", text)
        for index, part in enumerate(_list(content, place))
    ]


def _part(part: Json, place: str, text: str) -> Json:
    match part.get("type"):
        case "text":
            return {"type": text, "text": part.get("text")}
        case "refusal" if text == "output_text":
            return {"type": "refusal", "refusal": part.get("refusal")}
        case "image_url" if text == "input_text":
            image = _map(part.get("image_url"), f"{place}.image_url")
            detail = {} if image.get("detail") is None else {"detail": image["detail"]}
            return {"type": "input_image", "image_url": image.get("url"), **detail}
        case "file" if text == "input_text":
            file = _map(part.get("file"), f"{place}.file")
            if file.get("file_id") is not None:
                raise _unsupported(f"{place}.file.file_id")
            given = {name: file[name] for name in ("file_data", "filename") if file.get(name)}
            return {"type": "input_file", **given}
        case None:
            raise _missing(f"{place}.type")
        case _:
            raise _unsupported(f"{place}.type")


def _message(role: str, content: Any) -> Json:
    return {"type": "message", "role": role, "content": content}


def _format(wanted: Json) -> Json:
    if wanted.get("type") != "json_schema":
        return wanted
    schema = _map(wanted.get("json_schema"), "response_format.json_schema")
    return {**schema, "type": "json_schema"}


def _function(tool: Any, place: str) -> Json:
    tool = _map(tool, place)
    if tool.get("type") != "function":
        raise _unsupported(f"{place}.type")
    return {**_map(tool.get("function"), f"{place}.function"), "type": "function"}


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
                "'tool_choice' is none, auto, required, a function, or allowed_tools.",
            )


def _only(message: Json, place: str, names: set[str]) -> None:
    for name, value in message.items():
        if name not in names and value is not None:
            raise _unsupported(f"{place}.{name[:64]}")


def _map(value: Any, place: str) -> Json:
    if value is None:
        raise _missing(place)
    if not isinstance(value, dict):
        raise invalid(place, f"'{place}' must be an object.")
    return value


def _list(value: Any, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(place, f"'{place}' must be a list.")
    return value


def _missing(place: str) -> Problem:
    return invalid(place, f"'{place}' is required.", "missing_required_parameter")


def _unsupported(place: str) -> Problem:
    message = f"'{place}' asks for what is not supported here. Leave it out."
    return invalid(place, message, "unsupported_parameter")
