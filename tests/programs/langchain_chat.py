"""Runs LangChain's `ChatOpenAI` over the Responses API. Prints the results as JSON."""

import json
import os
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(location: str) -> str:
    """The weather at a place."""
    return f"Rain in {location}."


common = {"model": "m", "base_url": os.environ["BASE_URL"], "api_key": "any", "max_retries": 0}
model = ChatOpenAI(**common, use_responses_api=True)
older = ChatOpenAI(**common, use_responses_api=False)
asked, streamed, called, chatted = sys.argv[1:]
answer = model.invoke([("system", "Be brief."), ("user", asked)])
pieces = [piece.text for piece in model.stream(streamed)]

said = [HumanMessage(called)]
said.append(model.bind_tools([weather]).invoke(said))
(call,) = said[-1].tool_calls
said.append(ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]))
after = model.bind_tools([weather]).invoke(said)

print(
    json.dumps(
        {
            "plain": answer.text,
            "usage": answer.usage_metadata,
            "streamed": "".join(pieces),
            "loop": after.text,
            "older": "".join(piece.text for piece in older.stream(chatted)),
        }
    )
)
