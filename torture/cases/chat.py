"""Chat completions."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from torture.answer import Json, field_of, objects_of, text_of
from torture.case import CHAT, Weight, case
from torture.client import DONE
from torture.errors import Broken
from torture.sse import EventParser
from torture.trial import Prompt, Trial


def _body(trial: Trial, prompt: Prompt, **fields: Any) -> Json:
    messages = [{"role": "user", "content": prompt.text}]
    return {"model": trial.target.model, "messages": messages, **fields}


async def _stream(trial: Trial, prompt: Prompt) -> tuple[str, str, bool]:
    """Streams a completion. Returns its text, its finish_reason, and whether it has an end.

    An error, or a connection that breaks, has the reason "error".
    """
    client = trial.client()
    body = _body(trial, prompt, stream=True)
    trial.timeline.add(client.who, "sent", f"POST /chat/completions {json.dumps(body)}")
    text, reason, done, parser = "", "", False, EventParser()
    try:
        async with client.http.post(
            f"{client.url}/chat/completions", json=body, headers=client.headers
        ) as reply:
            if reply.status != 200:
                return "", "error", False
            async for content in reply.content.iter_any():
                for data in parser.feed(content):
                    trial.timeline.add(client.who, "arrived", data)
                    if data == DONE:
                        done = True
                        continue
                    chunk = json.loads(data)
                    if not isinstance(chunk, dict) or "error" in chunk:
                        return text, "error", False
                    for choice in objects_of(chunk, "choices"):
                        delta = choice.get("delta") or {}
                        text += text_of(delta, "content") if delta.get("content") else ""
                        reason = str(choice.get("finish_reason") or reason)
    except ValueError as error:
        raise Broken(f"the stream cannot be read: {error}") from None
    except (aiohttp.ClientError, ConnectionError):
        return text, "error", False
    return text, reason, done


@case(
    "chat.stream",
    "A streamed chat completion delivers the whole answer and the finish_reason stop.",
    CHAT,
    Weight.LOSES,
    "chat_completions",
)
async def stream(trial: Trial) -> None:
    prompt = trial.prompt(pieces=40, pace_ms=3)
    text, reason, done = await trial.within(_stream(trial, prompt), "the stream did not end")
    if reason != "stop" or not done:
        raise Broken(
            f"the finish_reason is {reason!r}, and [DONE] {'came' if done else 'is missing'}"
        )
    trial.check_text(prompt, text)
    trial.check_calls(prompt)


@case(
    "chat.complete",
    "A chat completion without a stream has the whole answer and the finish_reason stop.",
    CHAT,
    Weight.LOSES,
    "chat_completions",
)
async def complete(trial: Trial) -> None:
    prompt = trial.prompt(pieces=40)
    reply = await trial.client().request("POST", "/chat/completions", _body(trial, prompt))
    choice = field_of(reply.success(), "choices", 0)
    if field_of(choice, "finish_reason") != "stop":
        raise Broken(f"the finish_reason is {choice['finish_reason']}")
    trial.check_text(prompt, text_of(choice, "message", "content"))
    trial.check_calls(prompt)


def _cut(do: str, shown: str) -> None:
    @case(
        f"chat.{do}",
        f"A streamed chat completion whose model {shown} does not end with the reason stop.",
        CHAT,
        Weight.MISLEADS,
        *("chat_completions", "model"),
        deadline=60,
    )
    async def cut(trial: Trial) -> None:
        prompt = trial.prompt(pieces=20, at=10, do=do)
        seconds = trial.limits.recovery_seconds
        text, reason, _ = await trial.within(
            _stream(trial, prompt), "the stream did not end", seconds
        )
        expected = {"length": "length", "filter": "content_filter"}.get(do)
        if reason == "stop" or (expected and reason != expected):
            raise Broken(f"the finish_reason is {reason!r} after {len(text)} characters")


for _do, _shown in (
    ("cut", "breaks the connection"),
    ("end", "ends the stream without a finish_reason"),
    ("event", "sends an error"),
    ("length", "reaches its limit"),
    ("filter", "filters the answer"),
):
    _cut(_do, _shown)


@case(
    "chat.vanish",
    "If the client of a streamed chat completion vanishes, there is no second call.",
    CHAT,
    Weight.PAYS,
    *("chat_completions", "model"),
)
async def vanish(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    reading = asyncio.create_task(_stream(trial, prompt))
    try:
        await trial.called(prompt, pieces=10)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    trial.release(prompt)
    await asyncio.sleep(2)  # a second call would come within this time
    trial.check_calls(prompt)
