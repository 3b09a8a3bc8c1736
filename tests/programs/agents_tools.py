"""The OpenAI Agents SDK with the standard's client-side tools, over HTTP and WebSocket.

Prints its results as JSON.
"""

import asyncio
import json
import os
import sys
from typing import Any

from agents import (
    Agent,
    ApplyPatchTool,
    CustomTool,
    LocalShellTool,
    Runner,
    ShellTool,
    function_tool,
    set_tracing_disabled,
    tool_namespace,
)
from agents.models.openai_responses import OpenAIResponsesModel, OpenAIResponsesWSModel
from openai import AsyncOpenAI

DONE: list[Any] = []


async def run_commands(request: Any) -> str:
    DONE.append(request.data.action.commands)
    return "of the shell"


async def run_command(request: Any) -> str:
    DONE.append(request.data.action.command)
    return "of the local shell"


async def run_sql(_context: Any, query: str) -> str:
    DONE.append(query)
    return "of the database"


class Editor:
    """Records the changes of files, and makes none."""

    def create_file(self, operation: Any) -> None:
        DONE.append([operation.path, operation.diff])

    update_file = delete_file = create_file


@function_tool
def find(customer: str) -> str:
    """Finds a customer."""
    DONE.append(customer)
    return "of the customer"


TOOLS = [
    ShellTool(run_commands),
    LocalShellTool(run_command),
    ApplyPatchTool(Editor()),
    CustomTool("sql", "Runs SQL.", run_sql),
    *tool_namespace(name="crm", description="Customers.", tools=[find]),
]


async def main() -> None:
    set_tracing_disabled(disabled=True)
    client = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="any", max_retries=0)
    outputs = []
    for kind in (OpenAIResponsesModel, OpenAIResponsesWSModel):
        agent = Agent(name="a", model=kind("m", client), tools=TOOLS)
        for prompt in sys.argv[1:]:
            run = Runner.run_streamed(agent, prompt)
            async for _ in run.stream_events():
                pass
            outputs.append(run.final_output)
    print(json.dumps({"done": DONE, "outputs": outputs}))


asyncio.run(main())
