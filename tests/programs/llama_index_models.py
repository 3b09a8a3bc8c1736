"""Runs LlamaIndex's models for OpenAI-compatible servers. Prints the results as JSON."""

import asyncio
import json
import os
import sys
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike, OpenAILikeResponses
from openai import APIStatusError
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    city: str


def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


def streamed(llm: FunctionCallingLLM, prompt: str) -> str:
    return "".join([piece.delta or "" for piece in llm.stream_complete(prompt)])


def error_shown(llm: FunctionCallingLLM, prompt: str, *, stream: bool = False) -> str:
    """Returns the error message that a user sees."""
    try:
        return f"answered: {streamed(llm, prompt) if stream else llm.complete(prompt)}"
    except APIStatusError as error:
        return str(error)


async def loop(llm: FunctionCallingLLM, prompt: str) -> str:
    return str(await FunctionAgent(tools=[weather], llm=llm, streaming=False).run(prompt))


def city(llm: FunctionCallingLLM, prompt: str) -> str:
    return llm.structured_predict(City, PromptTemplate("{task}"), task=prompt).city


def seen(llm: FunctionCallingLLM, asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "plain": llm.complete(asked["plain"]).text,
        "streamed": streamed(llm, asked["streamed"]),
        "loop": asyncio.run(loop(llm, asked["loop"])),
        "failures": {name: error_shown(llm, prompt) for name, prompt in asked["failures"].items()},
    }


asked = json.loads(sys.argv[1])
common = {
    "model": "m",
    "api_base": os.environ["BASE_URL"],
    "api_key": "any",
    "is_function_calling_model": True,
}
chat = OpenAILike(**common, is_chat_model=True)
responses = OpenAILikeResponses(**common)
saw = {"chat": seen(chat, asked["chat"]), "responses": seen(responses, asked["responses"])}
# LlamaIndex sends a schema as a tool over chat completions, and as a format over the Responses API.
saw["chat"]["tool"] = city(chat, asked["chat"]["tool"])
text = chat.complete(asked["chat"]["json"], response_format={"type": "json_object"}).text
saw["chat"]["json"] = json.loads(text)["city"]
saw["responses"]["json"] = city(responses, asked["responses"]["json"])
saw["chat"]["failures"]["streamed"] = error_shown(chat, asked["streamed_failure"], stream=True)
print(json.dumps(saw))
