"""Requests that are sent twice."""

from __future__ import annotations

import asyncio

from torture.answer import text_of
from torture.case import CREATE, Weight, case
from torture.client import ConnectionLost, Refused
from torture.errors import Broken
from torture.trial import Trial

# The header is that of the IETF draft, which OpenAI's SDKs can send.
_SECTION = "https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/"
_LIBRARIES = "https://github.com/openai/openai-python#retries"


@case(
    "duplicate.later",
    "A request that is sent again with its Idempotency-Key gets the first response.",
    _SECTION,
    Weight.PAYS,
    "background",
)
async def later(trial: Trial) -> None:
    prompt, key = trial.prompt(pieces=10), trial.key()
    body = trial.body(prompt, background=True)
    first = text_of((await trial.client().create(body, key)).success(), "id")
    trial.check_completed(prompt, await trial.poll(first))
    again = text_of((await trial.client(1).create(body, key)).success(), "id")
    if first != again:
        raise Broken("the second request created another response")
    await trial.check_calls_later(prompt)


@case(
    "duplicate.at_once",
    "Requests with one Idempotency-Key that arrive at the same time call the model once.",
    _SECTION,
    Weight.PAYS,
    "background",
)
async def at_once(trial: Trial) -> None:
    prompt, key = trial.prompt(pieces=10, pace_ms=20), trial.key()
    body = trial.body(prompt, background=True)
    replies = await asyncio.gather(*(trial.client(n).create(body, key) for n in range(10)))
    # A server may refuse a request while the first one with the key is processed.
    accepted = {text_of(r.body, "id") for r in replies if r.ok}
    refused = {r.status for r in replies if not r.ok}
    if len(accepted) != 1 or not refused <= {409, 425, 429}:
        raise Broken(f"{len(accepted)} responses were created; refused: {sorted(refused)}")
    trial.check_completed(prompt, await trial.poll(accepted.pop()))
    await trial.check_calls_later(prompt)


@case(
    "duplicate.lost_reply",
    "A client that loses the connection before the reply can send its request again with the key.",
    _SECTION,
    Weight.PAYS,
    *("stream", "background", "model"),
)
async def lost_reply(trial: Trial) -> None:
    prompt, key = trial.prompt(pieces=20, hold=10), trial.key()
    body = trial.body(prompt, background=True)
    sending = asyncio.create_task(trial.client().stream(body, key))
    try:
        await trial.called(prompt)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    async with await trial.client(1).stream(body, key) as stream:
        trial.release(prompt)
        answer = await trial.within(stream.rest(), "the stream did not end")
    trial.check_completed(prompt, answer.final)
    await trial.check_calls_later(prompt)


@case(
    "duplicate.stream",
    "A second stream with the same key has the whole answer, from the first event on.",
    _SECTION,
    Weight.LOSES,
    *("stream", "background", "model"),
)
async def second_stream(trial: Trial) -> None:
    prompt, key = trial.prompt(pieces=20, hold=10), trial.key()
    body = trial.body(prompt, background=True)
    async with await trial.client().stream(body, key) as stream:
        first = await trial.within(stream.until("response.output_text.delta"), "no piece came")
        async with await trial.client(1).stream(body, key) as again:
            trial.release(prompt)
            second = await trial.within(again.rest(), "the second stream did not end")
            await trial.within(stream.rest(), "the first stream did not end")
    trial.check_completed(prompt, first.final)
    if first.events != second.events:
        raise Broken("the two streams have different events")
    await trial.check_calls_later(prompt)


@case(
    "duplicate.other_body",
    "A key that is used again for another request is refused, and not answered with the first one.",
    _SECTION,
    Weight.MISLEADS,
    *("background", "model"),
)
async def other_body(trial: Trial) -> None:
    first, other, key = trial.prompt(pieces=5), trial.prompt(pieces=5), trial.key()
    one = await trial.client().create(trial.body(first, background=True), key)
    trial.check_completed(first, await trial.poll(text_of(one.success(), "id")))
    reply = await trial.client().create(trial.body(other, background=True), key)
    if reply.status not in {400, 409, 422}:
        raise Broken(f"the second request gets {reply.status}")
    trial.check_calls(other, 0)


@case(
    "duplicate.sdk_retry",
    "The automatic retry of an official SDK after a lost connection calls the model once.",
    _LIBRARIES,
    Weight.PAYS,
    *("responses", "model"),
)
async def sdk_retry(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    body = trial.body(prompt)
    client = trial.client()
    sending = asyncio.create_task(client.create(body, X_Stainless_Retry_Count="0"))
    try:
        await trial.called(prompt, pieces=10)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    # The SDKs wait at least half a second.
    await asyncio.sleep(0.6)
    again = asyncio.create_task(client.create(body, X_Stainless_Retry_Count="1"))
    try:
        await asyncio.sleep(1)  # a second call would come within this time
        trial.release(prompt)
        reply = await trial.within(again, "the retry got no reply")
    finally:
        again.cancel()
    trial.check_completed(prompt, reply.success())
    await trial.check_calls_later(prompt)


@case(
    "duplicate.server_killed",
    "If a server is killed after a request arrived, the key leads another server to its response.",
    CREATE,
    Weight.PAYS,
    *("stream", "background", "resume", "model", "kill server", "two servers", "separate worker"),
    deadline=60,
)
async def server_killed(trial: Trial) -> None:
    prompt, key = trial.prompt(pieces=20, hold=10), trial.key()
    body = trial.body(prompt, background=True)
    stream = await trial.client().stream(body, key)
    try:
        await trial.called(prompt, pieces=10)
        await trial.system.kill(trial.member("server"))
    finally:
        stream.drop()
    try:
        again = await trial.client(1).stream(body, key)
    except (ConnectionLost, Refused) as error:
        raise Broken(f"the other server does not accept the request: {error}") from None
    async with again:
        trial.release(prompt)
        answer = await trial.within(again.rest(), "the stream did not end")
    trial.check_completed(prompt, answer.final)
    await trial.check_calls_later(prompt)
