"""Runs haystack's generators and agent over both APIs. Prints the results as JSON."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

# Without this setting, haystack would send telemetry about each run.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import create_tool_from_function
from haystack.utils import Secret
from openai import APIStatusError
from pydantic import BaseModel

# For each API, the generator class and the name of its schema option.
APIS = {
    "chat": (OpenAIChatGenerator, "response_format"),
    "responses": (OpenAIResponsesChatGenerator, "text_format"),
}


class City(BaseModel):
    city: str


def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


def plain(generator: Any, prompt: str, **options: Any) -> str:
    return generator.run([ChatMessage.from_user(prompt)], **options)["replies"][0].text


def streamed(generator: Any, prompt: str) -> list[str]:
    """Returns the complete text and the concatenated streamed pieces."""
    pieces: list[str] = []
    text = plain(generator, prompt, streaming_callback=lambda piece: pieces.append(piece.content))
    return [text, "".join(pieces)]


def error_shown(ask: Callable[[Any, str], Any], generator: Any, prompt: str) -> str:
    """Returns the error message that a user sees."""
    try:
        return f"answered: {ask(generator, prompt)}"
    except APIStatusError as error:
        return str(error)


asked, seen = json.loads(sys.argv[1]), {}
for api, (kind, shape) in APIS.items():
    key = Secret.from_token("any")
    generator = kind(model="m", api_base_url=os.environ["BASE_URL"], api_key=key)
    agent = Agent(chat_generator=generator, tools=[create_tool_from_function(weather)])
    say = asked[api]
    seen[api] = {
        "plain": plain(generator, say["plain"]),
        "streamed": streamed(generator, say["streamed"]),
        "loop": agent.run([ChatMessage.from_user(say["loop"])])["last_message"].text,
        "json": json.loads(plain(generator, say["json"], generation_kwargs={shape: City}))["city"],
        "failures": {
            name: error_shown(plain, generator, prompt) for name, prompt in say["failures"].items()
        },
    }
    if api == "chat":
        seen[api]["failures"]["streamed"] = error_shown(
            streamed, generator, asked["streamed_failure"]
        )
print(json.dumps(seen))
