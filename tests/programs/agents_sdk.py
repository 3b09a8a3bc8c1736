"""Runs the OpenAI Agents SDK over HTTP and WebSocket, each with a tool loop.

Prints the results as JSON.
"""

import asyncio
import json
import os
import sys

from agents import Agent, Runner, function_tool, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesModel, OpenAIResponsesWSModel
from openai import AsyncOpenAI


@function_tool
def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


async def main() -> None:
    set_tracing_disabled(disabled=True)
    client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="any", max_retries=0)
    ways = {"http": OpenAIResponsesModel, "socket": OpenAIResponsesWSModel}
    seen = {}
    for (name, kind), prompt in zip(ways.items(), sys.argv[1:], strict=True):
        agent = Agent(name="a", instructions="Be brief.", model=kind("m", client), tools=[weather])
        run = Runner.run_streamed(agent, prompt)
        kinds = [e.data.type async for e in run.stream_events() if e.type == "raw_response_event"]
        seen[name] = {
            "output": run.final_output,
            "turns": kinds.count("response.completed"),
            "items": [item.type for item in run.new_items],
        }
    print(json.dumps(seen))


asyncio.run(main())
