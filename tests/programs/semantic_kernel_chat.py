"""Runs Semantic Kernel's chat agent with a configured client. Prints the results as JSON."""

import asyncio
import json
import os
import sys

from openai import AsyncOpenAI
from semantic_kernel.agents import ChatCompletionAgent
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function


class Weather:
    """A plug-in with one function."""

    @kernel_function(name="weather", description="The weather at a place.")
    def weather(self, location: str) -> str:
        return f"Rain in {location}."


async def main() -> None:
    called, narrow, locked = sys.argv[1:]
    service = OpenAIChatCompletion(
        ai_model_id="m",
        async_client=AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="any"),
    )
    agent = ChatCompletionAgent(service=service, name="a", plugins=[Weather()])
    response = await agent.get_response(messages=called)
    failures = []
    for prompt in (narrow, locked):
        try:
            await agent.get_response(messages=prompt)
        except Exception as error:  # noqa: BLE001 - a user would see any of them
            failures.append(f"{error} {error.__cause__}")
    print(json.dumps({"loop": str(response), "failures": failures}))


asyncio.run(main())
