"""Answers without faults: streams and foreground requests."""

from __future__ import annotations

import asyncio

from torture.case import CREATE, RETRIEVE, STREAMING, Weight, case
from torture.client import EventStream
from torture.errors import Broken
from torture.trial import Prompt, Trial


@case(
    "stream.complete",
    "A stream delivers each piece of the answer once and in order, and then response.completed.",
    STREAMING,
    Weight.LOSES,
    "stream",
)
async def complete(trial: Trial) -> None:
    prompt = trial.prompt(pieces=60, pace_ms=3)
    async with await trial.client().stream(trial.body(prompt)) as stream:
        answer = await trial.within(stream.rest(), "the stream did not end")
    trial.check_completed(prompt, answer.final)
    if answer.delta_text != answer.text:
        raise Broken("the deltas differ from the output of response.completed")
    trial.check_calls(prompt)


@case(
    "stream.numbered",
    "Each event of a stream has a sequence number.",
    STREAMING,
    Weight.INCONVENIENT,
    "stream",
)
async def numbered(trial: Trial) -> None:
    prompt = trial.prompt(pieces=10)
    async with await trial.client().stream(trial.body(prompt)) as stream:
        answer = await trial.within(stream.rest(), "the stream did not end")
    answer.check_numbered()
    if not answer.ended:
        raise Broken("the stream has no terminal event")


@case(
    "stream.live",
    "A stream delivers pieces while the model still writes.",
    STREAMING,
    Weight.INCONVENIENT,
    *("stream", "model"),
)
async def live(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    async with await trial.client().stream(trial.body(prompt)) as stream:
        await trial.within(
            stream.until("response.output_text.delta"), "no piece arrived while the model wrote"
        )
        trial.release(prompt)
        answer = await trial.within(stream.rest(), "the stream did not end")
    trial.check_completed(prompt, answer.final)


@case(
    "stream.large",
    "A stream delivers an answer of a megabyte in large pieces.",
    STREAMING,
    Weight.LOSES,
    *("stream", "model"),
)
async def large(trial: Trial) -> None:
    prompt = trial.prompt(pieces=64, size=16_000)
    async with await trial.client().stream(trial.body(prompt)) as stream:
        answer = await trial.within(stream.rest(), "the stream did not end")
    trial.check_completed(prompt, answer.final)


@case(
    "stream.many",
    "Streams that run at the same time do not mix their answers.",
    STREAMING,
    Weight.LOSES,
    *("stream", "model"),
    deadline=60,
)
async def many(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=40, pace_ms=5) for _ in range(20)]

    async def one(number: int, prompt: Prompt) -> None:
        async with await trial.client(number).stream(trial.body(prompt)) as stream:
            answer = await stream.rest()
        trial.check_completed(prompt, answer.final)
        trial.check_calls(prompt)

    every = asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(prompts)))
    seconds = 2 * trial.limits.answer_seconds
    await trial.within(every, "the streams did not end", seconds)


@case(
    "stream.retrieved",
    "After a stream has ended, the stored response has the same output.",
    RETRIEVE,
    Weight.LOSES,
    *("stream", "background"),
)
async def retrieved(trial: Trial) -> None:
    prompt = trial.prompt(pieces=30)
    async with await trial.client().stream(trial.body(prompt, background=True)) as stream:
        answer = await trial.within(stream.rest(), "the stream did not end")
    response = (await trial.client(1).retrieve(answer.response_id)).success()
    trial.check_completed(prompt, response)
    if response.get("output") != answer.final.get("output"):
        raise Broken("the stored output differs from that of response.completed")


@case(
    "stream.slow_reader",
    "A client that stops reading for a while still gets the whole answer.",
    STREAMING,
    Weight.LOSES,
    *("stream", "background", "resume", "model"),
    deadline=90,
)
async def slow_reader(trial: Trial) -> None:
    prompt = trial.prompt(pieces=3000, size=400)
    client = trial.client(slow=True)
    stream = await client.stream(trial.body(prompt, background=True))
    answer = await trial.within(stream.until("response.output_text.delta"), "no piece arrived")
    # The client reads nothing, until the model has sent everything and the buffers are full.
    await trial.called(prompt, pieces=prompt.script.pieces)
    await asyncio.sleep(2)
    await trial.within(stream.rest(), "the stream did not end", trial.limits.recovery_seconds)
    stream.drop()
    # The server may disconnect a client that is too slow. Nothing may be lost then.
    trial.check_completed(prompt, await trial.follow(answer))
    trial.check_calls(prompt)


@case(
    "stream.slow_reader_alone",
    "A client that stops reading does not delay other clients.",
    STREAMING,
    Weight.INCONVENIENT,
    *("stream", "background", "model"),
    deadline=60,
)
async def slow_reader_alone(trial: Trial) -> None:
    slow = trial.prompt(pieces=2000, size=400)
    stream: EventStream = await trial.client(slow=True).stream(trial.body(slow, background=True))
    async with stream:
        await trial.within(stream.until("response.output_text.delta"), "no piece arrived")
        prompt = trial.prompt(pieces=40, pace_ms=2)
        async with await trial.client().stream(trial.body(prompt)) as other:
            answer = await trial.within(other.rest(), "the stream of the other client did not end")
        trial.check_completed(prompt, answer.final)


@case(
    "foreground.complete",
    "A request without a stream returns the whole answer.",
    CREATE,
    Weight.LOSES,
    "responses",
)
async def foreground(trial: Trial) -> None:
    prompt = trial.prompt(pieces=60)
    reply = await trial.client().create(trial.body(prompt))
    trial.check_completed(prompt, reply.success())
    trial.check_calls(prompt)
