"""The standard's request -> the arguments of a chat completion.

    instructions              -> a system message, first
    context, oldest first     -> what was said in earlier turns
    input                     -> what is asked now: a string, or messages
    temperature, top_p, ...   -> the same names
    max_output_tokens         -> max_tokens; see `LIMIT`

One function a kind of item: tools, images and formats will be further ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from jobs.record import Job

Message = dict[str, Any]

# Every compatible server knows the old name, and few know the new one. OpenAI's own endpoint knows
# both, but its reasoning models refuse the old one.
LIMIT: Final = "max_tokens"
OPENAI_LIMIT: Final = "max_completion_tokens"

_ROLES: Final = {
    "system": "system",
    # `developer` is the newer word for the same rank; most compatible servers refuse it.
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
_SAME_NAME: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
# type of a part -> the field that holds its text
_TEXT_PARTS: Final = {
    "input_text": "text",
    "output_text": "text",
    "text": "text",
    "refusal": "refusal",
}


class UnsupportedInput(Exception):
    """An item that this version cannot show to a model; the message names its type only."""


def completion(job: Job, *, default_model: str, limit: str = LIMIT) -> dict[str, Any]:
    """The arguments for `chat.completions.create`, streamed and with usage.

    Raises: UnsupportedInput.
    """
    params = job.params
    arguments: dict[str, Any] = {
        "model": params.get("model") or default_model,
        "messages": _messages(job),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for name in _SAME_NAME:
        if params.get(name) is not None:
            arguments[name] = params[name]
    if params.get("max_output_tokens") is not None:
        arguments[limit] = params["max_output_tokens"]
    return arguments


def characters(arguments: dict[str, Any]) -> int:
    """How many characters of text these arguments show to the model."""
    return sum(len(message["content"]) for message in arguments["messages"])


def _messages(job: Job) -> list[Message]:
    messages: list[Message] = []
    if job.params.get("instructions"):
        messages.append({"role": "system", "content": job.params["instructions"]})
    asked = job.params.get("input", "")
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    for item in [*job.context, *items]:
        message = _message(item)
        # What was cut before its first word says nothing, and some servers refuse it.
        if message["content"] or message["role"] != "assistant":
            messages.append(message)
    return messages


def _message(item: dict[str, Any]) -> Message:
    kind = item.get("type", "message")
    if kind != "message" or item.get("role") not in _ROLES:
        raise UnsupportedInput(f"item of type {kind}")
    content = item.get("content") or ""
    # One string and not a list of parts: the form that every compatible server takes.
    text = content if isinstance(content, str) else "".join(map(_part, content))
    return {"role": _ROLES[item["role"]], "content": text}


def _part(part: dict[str, Any]) -> str:
    kind = part.get("type")
    if kind not in _TEXT_PARTS:
        raise UnsupportedInput(f"content of type {kind}")
    text: str = part[_TEXT_PARTS[kind]]
    return text
