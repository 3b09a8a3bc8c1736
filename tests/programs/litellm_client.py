"""Runs LiteLLM as a client over both APIs. Prints the results as JSON."""

import json
import os
import sys
from typing import Any, ClassVar

# Without this setting, LiteLLM would download its price list.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from openai import APIError

WEATHER = {
    "name": "weather",
    "description": "The weather at a place.",
    "parameters": {"type": "object", "properties": {"location": {"type": "string"}}},
}
COMMON = {"model": "openai/m", "api_base": os.environ["BASE_URL"], "api_key": "any"}
# Without this setting, LiteLLM would print advice to standard output after each failure.
litellm.suppress_debug_info = True


class Chat:
    """Calls over the chat completions API."""

    tools: ClassVar = [{"type": "function", "function": WEATHER}]
    json_mode: ClassVar = {"response_format": {"type": "json_object"}}

    def create(self, messages: str | list[Any], **options: Any) -> Any:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return litellm.completion(messages=messages, **COMMON, **options)

    def text(self, answer: Any) -> str:
        return answer.choices[0].message.content

    def pieces(self, stream: Any) -> list[str]:
        return [piece.choices[0].delta.content or "" for piece in stream]

    def loop(self, prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        messages.append(self.create(messages, tools=self.tools).choices[0].message)
        (call,) = messages[-1].tool_calls
        place = json.loads(call.function.arguments)["location"]
        messages.append({"role": "tool", "tool_call_id": call.id, "content": f"Rain in {place}."})
        return self.text(self.create(messages, tools=self.tools))


class Responses:
    """Calls over the Responses API."""

    tools: ClassVar = [{"type": "function", "strict": False, **WEATHER}]
    json_mode: ClassVar = {"text": {"format": {"type": "json_object"}}}

    def create(self, said: str | list[Any], **options: Any) -> Any:
        return litellm.responses(input=said, **COMMON, **options)

    def text(self, answer: Any) -> str:
        return answer.output_text

    def pieces(self, stream: Any) -> list[str]:
        return [event.delta for event in stream if event.type == "response.output_text.delta"]

    def loop(self, prompt: str) -> str:
        first = self.create(prompt, tools=self.tools)
        (call,) = first.output
        place = json.loads(call.arguments)["location"]
        result = {
            "type": "function_call_output",
            "call_id": call.call_id,
            "output": f"Rain in {place}.",
        }
        return self.text(self.create([result], previous_response_id=first.id, tools=self.tools))


def streamed(api: Chat | Responses, prompt: str) -> str:
    return "".join(api.pieces(api.create(prompt, stream=True)))


def error_shown(api: Chat | Responses, prompt: str, *, stream: bool = False) -> str:
    """Returns the error message that a user sees."""
    try:
        answered = streamed(api, prompt) if stream else api.text(api.create(prompt))
    except APIError as error:
        return f"{type(error).__name__}: {error}"
    return f"answered: {answered}"


asked, saw = json.loads(sys.argv[1]), {}
for name, api in {"chat": Chat(), "responses": Responses()}.items():
    say = asked[name]
    saw[name] = {
        "plain": api.text(api.create(say["plain"])),
        "streamed": streamed(api, say["streamed"]),
        "loop": api.loop(say["loop"]),
        "json": json.loads(api.text(api.create(say["json"], **api.json_mode)))["city"],
        "failures": {name: error_shown(api, prompt) for name, prompt in say["failures"].items()},
    }
saw["chat"]["failures"]["streamed"] = error_shown(Chat(), asked["streamed_failure"], stream=True)
print(json.dumps(saw))
