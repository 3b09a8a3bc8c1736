"""The OpenAI Agents SDK with its sessions, a handoff and hosted tools.

The argument is a JSON object with the prompts of each part. Prints the results as JSON.
"""

import asyncio
import json
import os
import sys
from typing import Any

from agents import (
    Agent,
    CodeInterpreterTool,
    FileSearchTool,
    HostedMCPTool,
    ImageGenerationTool,
    ModelSettings,
    OpenAIConversationsSession,
    OpenAIResponsesCompactionSession,
    Runner,
    SQLiteSession,
    WebSearchTool,
    function_tool,
    set_tracing_disabled,
)
from agents.models.openai_responses import OpenAIResponsesModel, OpenAIResponsesWSModel
from openai import APIStatusError, AsyncOpenAI

CLIENT = AsyncOpenAI(base_url=os.environ["BASE_URL"], api_key="any", max_retries=0)


@function_tool
def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


def agent(name: str, model: str, socket: bool = False, **more: Any) -> Agent:
    kind = OpenAIResponsesWSModel if socket else OpenAIResponsesModel
    return Agent(name=name, instructions=f"You are {name}.", model=kind(model, CLIENT), **more)


async def run(agent: Agent, prompt: str, **more: Any) -> Any:
    """Runs an agent with streaming until it ends."""
    result = Runner.run_streamed(agent, prompt, **more)
    async for _ in result.stream_events():
        pass
    return result


def kinds(items: list[Any]) -> list[str]:
    return [item.get("type", "message") for item in items]


async def compacted(model: str, mode: str, prompts: list[str]) -> Any:
    """Runs turns with a session that is compacted when it has more than three items of the model.

    Returns each turn's output, and the types of the items in the session after the turn.
    """
    session = OpenAIResponsesCompactionSession(
        session_id="s",
        underlying_session=SQLiteSession("s"),
        client=CLIENT,
        model=model,
        compaction_mode=mode,
        should_trigger_compaction=lambda context: len(context["compaction_candidate_items"]) > 3,
    )
    one = agent("compacted", model, tools=[weather])
    turns = []
    for prompt in prompts:
        result = await run(one, prompt, session=session)
        turns.append([result.final_output, kinds(await session.get_items())])
    return turns


async def conversation(model: str, prompts: list[str]) -> Any:
    """Runs turns with a session that is a conversation, then removes one item and all items."""
    session = OpenAIConversationsSession(openai_client=CLIENT)
    one = agent("conversation", model, tools=[weather])
    outputs = [(await run(one, prompt, session=session)).final_output for prompt in prompts]
    items = kinds(await session.get_items())
    newest = kinds(await session.get_items(limit=2))
    popped = await session.pop_item()
    left = kinds(await session.get_items())
    id_ = session.session_id
    await session.clear_session()
    gone: str | None = None
    try:
        await CLIENT.conversations.retrieve(id_)
    except APIStatusError as error:
        gone = error.code
    return {
        "outputs": outputs,
        "items": items,
        "newest": newest,
        "popped": popped["content"][0]["text"].strip(),
        "left": left,
        "gone": gone,
    }


async def by_id(model: str, prompts: list[str]) -> Any:
    """Runs turns in a conversation that the server keeps."""
    made = await CLIENT.conversations.create()
    one = agent("by_id", model, tools=[weather])
    outputs = [(await run(one, text, conversation_id=made.id)).final_output for text in prompts]
    items = [item.type async for item in CLIENT.conversations.items.list(made.id, order="asc")]
    return {"outputs": outputs, "items": items}


async def handoff(model: str, socket: bool, prompt: str) -> Any:
    billing = agent("billing", model, socket)
    result = await run(agent("triage", model, socket, handoffs=[billing]), prompt)
    return [result.final_output, result.last_agent.name]


async def mcp(model: str, socket: bool, approve: bool, prompt: str) -> Any:
    """Runs an agent with a hosted MCP server whose calls need the approval of the program."""
    requests = []

    def decide(request: Any) -> Any:
        requests.append([request.data.server_label, request.data.name, request.data.arguments])
        return {"approve": approve}

    tool = HostedMCPTool(
        tool_config={
            "type": "mcp",
            "server_label": "docs",
            "server_url": "https://docs.example",
            "headers": {"Authorization": "Bearer of-the-server"},
            "require_approval": "always",
        },
        on_approval_request=decide,
    )
    try:
        result = await run(agent("mcp", model, socket, tools=[tool]), prompt)
    except APIStatusError as error:
        return {"refused": error.message}
    return {"output": result.final_output, "requests": requests}


async def hosted(model: str, prompts: list[str]) -> Any:
    """Runs turns with the tools of a provider. Each turn sends all items of the turns before it."""
    tools = [
        WebSearchTool(),
        FileSearchTool(vector_store_ids=["vs_1"], include_search_results=True),
        CodeInterpreterTool({"type": "code_interpreter", "container": {"type": "auto"}}),
        ImageGenerationTool({"type": "image_generation"}),
    ]
    settings = ModelSettings(store=False, response_include=["reasoning.encrypted_content"])
    one = agent("hosted", model, tools=tools, model_settings=settings)
    session = SQLiteSession("hosted")
    return [(await run(one, prompt, session=session)).final_output for prompt in prompts]


async def main() -> None:
    set_tracing_disabled(disabled=True)
    seen: dict[str, Any] = {}
    for part, calls in json.loads(sys.argv[1]).items():
        seen[part] = [await globals()[part](*call) for call in calls]
    print(json.dumps(seen))


asyncio.run(main())
