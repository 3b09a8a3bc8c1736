"""LangChain's `ChatOpenAI` over the Responses API. Prints what it saw as JSON."""

import json
import os
import sys

from langchain_openai import ChatOpenAI

model = ChatOpenAI(
    model="m",
    base_url=os.environ["BASE_URL"],
    api_key="any",
    use_responses_api=True,
    max_retries=0,
)
asked, streamed = sys.argv[1:]
answer = model.invoke([("system", "Be brief."), ("user", asked)])
pieces = [piece.text for piece in model.stream(streamed)]
print(
    json.dumps({"plain": answer.text, "usage": answer.usage_metadata, "streamed": "".join(pieces)})
)
