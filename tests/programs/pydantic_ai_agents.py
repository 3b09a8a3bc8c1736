"""Runs pydantic-ai over both APIs. Prints the results as JSON."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    city: str


def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


async def error_shown(answer: Awaitable[Any]) -> str:
    """Returns the error message that a user sees."""
    try:
        return f"answered: {await answer}"
    except ModelHTTPError as error:
        return str(error)


async def plain(agent: Agent, prompt: str) -> Any:
    return (await agent.run(prompt)).output


async def streamed(agent: Agent, prompt: str) -> str:
    async with agent.run_stream(prompt) as run:
        return "".join([piece async for piece in run.stream_text(delta=True)])


async def main() -> None:
    provider = OpenAIProvider(base_url=os.environ["BASE_URL"], api_key="any")
    asked, seen = json.loads(sys.argv[1]), {}
    for api, kind in {"chat": OpenAIChatModel, "responses": OpenAIResponsesModel}.items():
        model, say = kind("m", provider=provider), asked[api]
        agent = Agent(model, instructions="Be brief.")
        seen[api] = {
            "plain": await plain(agent, say["plain"]),
            "streamed": await streamed(agent, say["streamed"]),
            "loop": await plain(Agent(model, tools=[weather]), say["loop"]),
            "tool": (await plain(Agent(model, output_type=City), say["tool"])).city,
            "json": (await plain(Agent(model, output_type=NativeOutput(City)), say["json"])).city,
            "failures": {
                name: await error_shown(plain(agent, prompt))
                for name, prompt in say["failures"].items()
            },
        }
    seen["chat"]["failures"]["streamed"] = await error_shown(
        streamed(Agent(OpenAIChatModel("m", provider=provider)), asked["streamed_failure"])
    )
    print(json.dumps(seen))


asyncio.run(main())
