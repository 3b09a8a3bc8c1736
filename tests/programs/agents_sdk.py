"""The OpenAI Agents SDK, over HTTP and over its WebSocket. Prints what it saw as JSON."""

import asyncio
import json
import os
import sys

from agents import Agent, Runner, set_tracing_disabled
from agents.models.openai_responses import OpenAIResponsesModel, OpenAIResponsesWSModel
from openai import AsyncOpenAI


async def main() -> None:
    set_tracing_disabled(disabled=True)
    client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="any", max_retries=0)
    seen = {}
    for name, kind, prompt in zip(
        ("http", "socket"),
        (OpenAIResponsesModel, OpenAIResponsesWSModel),
        sys.argv[1:],
        strict=True,
    ):
        agent = Agent(name="a", instructions="Be brief.", model=kind("m", client))
        run = Runner.run_streamed(agent, prompt)
        kinds = [e.data.type async for e in run.stream_events() if e.type == "raw_response_event"]
        seen[name] = {"output": run.final_output, "last": kinds[-1]}
    print(json.dumps(seen))


asyncio.run(main())
