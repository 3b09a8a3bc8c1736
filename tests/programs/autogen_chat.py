"""Runs AutoGen's assistant agent with its own retries. Prints the results as JSON."""

import asyncio
import json
import os
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = ModelInfo(
    vision=False,
    function_calling=True,
    json_output=True,
    structured_output=True,
    family=ModelFamily.UNKNOWN,
)


async def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


async def main() -> None:
    called, narrow, locked = sys.argv[1:]
    client = OpenAIChatCompletionClient(
        model="m", base_url=os.environ["BASE_URL"], api_key="any", model_info=INFO
    )

    def agent() -> AssistantAgent:
        return AssistantAgent("a", client, tools=[weather], reflect_on_tool_use=True)

    result = await agent().run(task=called)
    failures = []
    for prompt in (narrow, locked):
        try:
            await agent().run(task=prompt)
        except Exception as error:  # noqa: BLE001 - a user would see any of them
            failures.append(str(error))
    print(json.dumps({"loop": result.messages[-1].content, "failures": failures}))
    await client.close()


asyncio.run(main())
