"""A stream without faults."""

from __future__ import annotations

from torture.case import CREATE, STREAMING, Weight, case
from torture.errors import Broken
from torture.trial import Trial


@case(
    "stream.complete",
    "A stream delivers each piece of the answer once and in order, and then response.completed.",
    STREAMING,
    Weight.LOSES,
    "stream",
    "model",
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
    "foreground.complete",
    "A request without a stream returns the whole answer.",
    CREATE,
    Weight.LOSES,
    "responses",
    "model",
)
async def foreground(trial: Trial) -> None:
    prompt = trial.prompt(pieces=60)
    reply = await trial.client().create(trial.body(prompt))
    trial.check_completed(prompt, reply.success())
    trial.check_calls(prompt)
