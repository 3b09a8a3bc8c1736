"""Odd and invalid requests: each is answered or refused, and harms nothing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from torture.answer import text_of
from torture.case import CREATE, ERRORS, RESUME, Weight, case
from torture.client import Client, ConnectionLost
from torture.errors import Broken
from torture.trial import Trial

# Characters that programs lose or change: of several bytes, of both directions, combined, and
# controls. A NUL is left out, because some stores cannot contain it.
_ODD_TEXT = (
    "naïve 日本語 🙂🏽 שלום e\u0301 \u2028 \u200d \t\r\n"
    " \\u0041 \\\\ \"'` </script> \x7f \ufeff end"
)


@case(
    "input.unicode",
    "The model gets a prompt with unusual characters as the client has sent it.",
    CREATE,
    Weight.MISLEADS,
    *("responses", "model"),
)
async def unicode(trial: Trial) -> None:
    prompt = trial.prompt(pieces=5)
    body = {**trial.body(prompt), "input": f"{_ODD_TEXT} {prompt.text}"}
    trial.check_completed(prompt, (await trial.client().create(body)).success())
    if _ODD_TEXT not in trial.calls(prompt)[-1].context:
        raise Broken("the model did not get the text as it was sent")


@case(
    "input.large",
    "A prompt of 300 kB reaches the model whole, or is refused.",
    CREATE,
    Weight.MISLEADS,
    *("responses", "model"),
)
async def large(trial: Trial) -> None:
    prompt = trial.prompt(pieces=5)
    text = "".join(f"{number:07d} " for number in range(37_500))
    reply = await trial.client().create({**trial.body(prompt), "input": f"{text}{prompt.text}"})
    if 400 <= reply.status < 500:
        return
    trial.check_completed(prompt, reply.success())
    if text not in trial.calls(prompt)[-1].context:
        raise Broken("the model did not get the whole prompt")


@case(
    "input.usage",
    "The usage of a completed response is that of the model's call.",
    CREATE,
    Weight.MISLEADS,
    *("responses", "model"),
)
async def usage(trial: Trial) -> None:
    prompt = trial.prompt(pieces=17)
    response = (await trial.client().create(trial.body(prompt))).success()
    counts = response.get("usage")
    if not isinstance(counts, dict) or counts.get("output_tokens") != 17:
        raise Broken(f"the usage is {counts}, and the model has sent 17 tokens")


async def _send(client: Client, content: bytes) -> int:
    """Sends a body as it is, and returns the status of the reply."""
    headers = {**client.headers, "Content-Type": "application/json"}
    client.timeline.add(client.who, "sent", f"POST /responses {content[:200]!r}")
    url = f"{client.url}/responses"
    try:
        async with client.http.post(url, data=content, headers=headers) as reply:
            text = await reply.text(errors="replace")
    except (aiohttp.ClientError, ConnectionError) as error:
        raise ConnectionLost(f"POST /responses: {error!r}") from None
    client.timeline.add(client.who, "arrived", f"{reply.status} {text}")
    return reply.status


def _refused(name: str, shown: str, content: bytes) -> None:
    @case(
        f"input.{name}",
        f"A request with {shown} is refused as the client's error.",
        ERRORS,
        Weight.MISLEADS,
        "responses",
    )
    async def refused(trial: Trial) -> None:
        status = await trial.within(_send(trial.client(), content), "no reply came")
        if not 400 <= status < 500:
            raise Broken(f"the status is {status}")


for _name, _shown, _content in (
    ("broken_json", "a body that is no JSON", b'{"model": "simulation", "input": "Hel'),
    ("no_object", "a body that is no object", b'["simulation", "Hello"]'),
    ("wrong_types", "values of wrong types", b'{"model": 3, "input": {"a": [1]}, "stream": "x"}'),
    ("deep", "a body that is nested too deeply", b"[" * 100_000 + b"]" * 100_000),
    ("no_utf8", "a body that is not UTF-8", b'{"model": "simulation", "input": "\xff\xfe"}'),
):
    _refused(_name, _shown, _content)


@case(
    "input.surrogate",
    "A prompt with half of a surrogate pair is answered or refused, and not a server error.",
    ERRORS,
    Weight.INCONVENIENT,
    *("responses", "model"),
)
async def surrogate(trial: Trial) -> None:
    prompt = trial.prompt(pieces=5)
    body = json.dumps({**trial.body(prompt), "input": f"\ud83d {prompt.text}"}).encode()
    status = await trial.within(_send(trial.client(), body), "no reply came")
    if status >= 500:
        raise Broken(f"the status is {status}")


@case(
    "input.cursor",
    "A resume with an invalid cursor is refused as the client's error.",
    RESUME,
    Weight.MISLEADS,
    *("background", "resume"),
)
async def cursor(trial: Trial) -> None:
    reply = await trial.client().create(trial.body(trial.prompt(pieces=5), background=True))
    response_id = text_of(reply.success(), "id")
    await trial.poll(response_id)
    for wrong in ("one", "1.5", "9" * 40):
        path = f"/responses/{response_id}?stream=true&starting_after={wrong}"
        found = await trial.within(trial.client().request("GET", path), "no reply came")
        # A cursor after the last event may also lead to an empty stream.
        if found.status >= 500 or (found.ok and not wrong.isdigit()):
            raise Broken(f"the cursor {wrong} gets {found.status}")


@case(
    "input.beside",
    "Invalid requests do not disturb an answer that is streamed at the same time.",
    ERRORS,
    Weight.LOSES,
    *("responses", "stream", "model"),
)
async def beside(trial: Trial) -> None:
    prompt = trial.prompt(pieces=100, pace_ms=5)
    contents = (b"{", b"[" * 50_000, b'{"input": 3}', b"\xff" * 1000, b"")
    async with await trial.client().stream(trial.body(prompt)) as stream:
        sends = [asyncio.create_task(_send(trial.client(), one)) for one in contents * 4]
        try:
            answer = await trial.within(stream.rest(), "the stream did not end")
            found: list[Any] = await asyncio.gather(*sends, return_exceptions=True)
        finally:
            for task in sends:
                task.cancel()
    trial.check_completed(prompt, answer.final)
    trial.check_calls(prompt)
    if any(isinstance(status, int) and status >= 500 for status in found):
        raise Broken("an invalid request gets a server error")
