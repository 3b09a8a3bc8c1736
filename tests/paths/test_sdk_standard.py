"""Tests tools, formats, reasoning and files of the Responses standard with the official SDK."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from pydantic import BaseModel

from tests.paths.conftest import Shared

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
TIME: Any = {**WEATHER, "name": "time", "description": "The time in a city."}
BERN = '{"city":"Bern"}'
PIXEL = "data:image/png;base64,iVBORw0KGgo="


class Place(BaseModel):
    """The schema of a structured answer or of a function's arguments."""

    city: str


def call_of(response: Response) -> Any:
    """Returns a response's only function call."""
    (call,) = [item for item in response.output if item.type == "function_call"]
    return call


def result(call: Any, output: str) -> Any:
    """Returns the item that contains a function call's output."""
    return {"type": "function_call_output", "call_id": call.call_id, "output": output}


async def test_a_function_result_continues_the_previous_response(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt(f"mode=call args={BERN}")
    first = await client.responses.create(input=prompt, model="m", tools=[WEATHER])
    call = call_of(first)
    assert ("completed", "weather", BERN) == (first.status, call.name, call.arguments)

    second = await client.responses.create(
        input=[result(call, "It_rains.")],
        previous_response_id=first.id,
        model="m",
        tools=[WEATHER],
    )

    assert "It rains." == second.output_text
    _, told = shared.calls(prompt)
    assistant, tool = told.body["messages"][-2:]
    assert call.call_id == assistant["tool_calls"][0]["id"] == tool["tool_call_id"]
    shown = told.body["tools"][0]["function"]
    assert {name: WEATHER[name] for name in WEATHER if name != "type"} == shown


async def test_a_tool_loop_can_send_the_complete_conversation(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt(f"mode=call args={BERN}")
    asked: list[Any] = [{"role": "user", "content": prompt}]
    first = await client.responses.create(input=asked, model="m", tools=[WEATHER])
    again = [*asked, *first.output, result(call_of(first), "Sun")]
    second = await client.responses.create(input=again, model="m", tools=[WEATHER])

    assert "Sun" == second.output_text


async def test_items_can_be_sent_by_reference(
    shared: Shared, client: AsyncOpenAI, elsewhere: AsyncOpenAI
) -> None:
    prompt = shared.prompt(f"mode=call args={BERN}")
    first = await client.responses.create(input=prompt, model="m", tools=[WEATHER])
    call = call_of(first)
    named: list[Any] = [
        {"role": "user", "content": prompt},
        {"type": "item_reference", "id": call.id},
        result(call, "Snow"),
    ]
    second = await elsewhere.responses.create(input=named, model="m", tools=[WEATHER])

    assert "Snow" == second.output_text
    items = await client.responses.input_items.list(second.id, order="asc")
    assert ["message", "function_call", "function_call_output"] == [i.type for i in items.data]
    with pytest.raises(openai.NotFoundError, match="Send the item itself"):
        await client.responses.create(input=[{"type": "item_reference", "id": "msg_1"}], model="m")


async def test_streamed_tool_calls_work_with_the_accumulator_of_the_sdk(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt(f"mode=calls args={BERN}")
    tools = [openai.pydantic_function_tool(Place, name=name) for name in ("weather", "time")]
    flat = [{"type": "function", **tool["function"]} for tool in tools]
    async with client.responses.stream(input=prompt, model="m", tools=flat) as stream:  # type: ignore[arg-type]
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()

    one, other = [item for item in final.output if item.type == "function_call"]
    assert [("weather", BERN), ("time", BERN)] == [(c.name, c.arguments) for c in (one, other)]
    assert one.call_id != other.call_id
    assert {"response.function_call_arguments.delta", "response.function_call_arguments.done"} < {
        *kinds
    }


@pytest.mark.parametrize(
    ("choice", "shown", "passed"),
    [
        ("auto", ["weather", "time"], "auto"),
        ("required", ["weather", "time"], "required"),
        (
            {"type": "function", "name": "time"},
            ["time"],
            {"type": "function", "function": {"name": "time"}},
        ),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "time"}],
            },
            ["time"],
            "required",
        ),
    ],
)
async def test_the_tool_choice_reaches_the_model(
    shared: Shared, client: AsyncOpenAI, choice: Any, shown: list[str], passed: Any
) -> None:
    prompt = shared.prompt("mode=call")
    response = await client.responses.create(
        input=prompt,
        model="m",
        tools=[WEATHER, TIME],
        tool_choice=choice,
        parallel_tool_calls=False,
    )

    (told,) = shared.calls(prompt)
    assert shown == [tool["function"]["name"] for tool in told.body["tools"]]
    assert passed == told.body["tool_choice"]
    assert told.body["parallel_tool_calls"] is False
    assert shown[0] == call_of(response).name


async def test_a_call_of_a_disallowed_function_is_retried(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt("mode=call name=time times=1 tokens=2")
    response = await client.responses.create(
        input=prompt,
        model="m",
        tools=[WEATHER, TIME],
        tool_choice={
            "type": "allowed_tools",
            "mode": "auto",
            "tools": [{"type": "function", "name": "weather"}],
        },
    )

    assert ["message"] == [item.type for item in response.output]
    assert 2 == len(shared.calls(prompt))


async def test_structured_output_is_parsed_by_the_sdk(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt(f"say={BERN}")
    response = await client.responses.parse(input=prompt, model="m", text_format=Place)

    assert Place(city="Bern") == response.output_parsed
    wanted = shared.calls(prompt)[0].body["response_format"]
    assert ("json_schema", "Place", True) == (
        wanted["type"],
        wanted["json_schema"]["name"],
        wanted["json_schema"]["strict"],
    )
    assert response.text is not None
    assert "json_schema" == getattr(response.text.format, "type", None)


async def test_reasoning_is_a_separate_item_and_not_sent_back_to_the_model(
    shared: Shared, client: AsyncOpenAI
) -> None:
    prompt = shared.prompt("mode=think tokens=3")
    first = await client.responses.create(input=prompt, model="m", reasoning={"effort": "high"})
    thought, message = first.output
    assert ("reasoning", "message") == (thought.type, message.type)
    assert thought.type == "reasoning"
    assert thought.content is not None
    assert "First this." == thought.content[0].text
    assert "First" not in first.output_text
    assert "high" == shared.calls(prompt)[0].body["reasoning_effort"]

    again = shared.prompt("tokens=1")
    await client.responses.create(input=again, previous_response_id=first.id, model="m")
    roles = [message["role"] for message in shared.calls(again)[0].body["messages"]]
    assert ["user", "assistant", "user"] == roles


async def test_a_refusal_is_a_separate_content_part(shared: Shared, client: AsyncOpenAI) -> None:
    stream = await client.responses.create(
        input=shared.prompt("mode=refuse"), model="m", stream=True
    )
    events = [event async for event in stream]

    said = [event.delta for event in events if event.type == "response.refusal.delta"]
    assert "I will not." == "".join(said)
    last = events[-1]
    assert last.type == "response.completed"
    message = last.response.output[0]
    assert message.type == "message"
    assert ["refusal"] == [part.type for part in message.content]
    assert "" == last.response.output_text


async def test_a_source_is_returned_as_an_annotation(shared: Shared, client: AsyncOpenAI) -> None:
    response = await client.responses.create(input=shared.prompt("mode=cite"), model="m")

    message = response.output[0]
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    (source,) = part.annotations
    assert source.type == "url_citation"
    assert ("https://example.org/a", 2) == (source.url, source.end_index)


async def test_log_probabilities_are_returned_on_request(
    shared: Shared, client: AsyncOpenAI
) -> None:
    async def tokens(**more: Any) -> list[Any]:
        response = await client.responses.create(
            input=shared.prompt("mode=probs tokens=3"), model="m", **more
        )
        message = response.output[0]
        assert message.type == "message"
        assert message.content[0].type == "output_text"
        return message.content[0].logprobs or []

    asked = await tokens(include=["message.output_text.logprobs"], top_logprobs=2)
    assert [(-0.5, 2)] * 3 == [(one.logprob, len(one.top_logprobs)) for one in asked]
    assert [] == await tokens()


async def test_images_and_files_reach_the_model(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt("tokens=1")
    file = "data:application/pdf;base64,JVBERi0="
    content: list[Any] = [
        {"type": "input_text", "text": prompt},
        {"type": "input_image", "image_url": PIXEL, "detail": "low"},
        {"type": "input_image", "image_url": "https://example.org/a.png"},
        {"type": "input_file", "filename": "a.pdf", "file_data": file},
    ]
    await client.responses.create(input=[{"role": "user", "content": content}], model="m")

    (call,) = shared.calls(prompt)
    assert [
        {"type": "text", "text": prompt},
        {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "auto"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": file}},
    ] == call.body["messages"][-1]["content"]


async def test_truncation_auto_drops_the_oldest_turns(shared: Shared, client: AsyncOpenAI) -> None:
    prompt = shared.prompt("mode=narrow at=400 tokens=1")
    old = [{"role": role, "content": "x" * 100} for role in ("user", "assistant") * 10]
    asked: list[Any] = [
        {"role": "system", "content": "rules"},
        *old,
        {"role": "user", "content": prompt},
    ]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(input=asked, model="m")
    assert "context_length_exceeded" == refused.value.code
    assert 1 == len(shared.calls(prompt))

    kept = await client.responses.create(input=asked, model="m", truncation="auto")
    assert "completed" == kept.status
    last = shared.calls(prompt)[-1].body["messages"]
    assert ("rules", prompt) == (last[0]["content"], last[-1]["content"])
    assert json.dumps(last).count("x" * 100) >= 1
