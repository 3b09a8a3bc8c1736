"""Cancelled responses."""

from __future__ import annotations

import asyncio

from torture.answer import Json, output_text, text_of
from torture.case import CANCEL, Weight, case
from torture.errors import Broken
from torture.follower import NEEDS, POLL, SHOWN, STREAM, Follower
from torture.trial import Prompt, Trial


def _check_cancelled(response: Json) -> None:
    if (status := text_of(response, "status")) != "cancelled":
        raise Broken(f"the status is {status}, not cancelled")


async def _cancelled(trial: Trial, prompt: Prompt, way: str) -> Follower:
    """Cancels a response whose model holds in the middle, and waits until it has ended."""
    follower = Follower(trial, prompt, way)
    try:
        response_id = await follower.start()
        if trial.scripted:
            await trial.called(prompt, pieces=prompt.script.hold)
        (await trial.client(1).cancel(response_id)).success()
        _check_cancelled(await follower.finish(trial.limits.answer_seconds))
    finally:
        await follower.close()
    return follower


def _running(way: str) -> None:
    @case(
        f"cancel.running.{way}",
        f"After a cancellation in the middle of an answer, {SHOWN[way]} gets the status cancelled.",
        CANCEL,
        Weight.MISLEADS,
        *(*NEEDS[way], "cancel", "model"),
    )
    async def running(trial: Trial) -> None:
        prompt = trial.prompt(pieces=20, hold=10)
        follower = await _cancelled(trial, prompt, way)
        _check_cancelled((await trial.client(1).retrieve(follower.response_id)).success())


for _way in (STREAM, POLL):
    _running(_way)


@case(
    "cancel.closes_call",
    "A cancellation in the middle of an answer closes the call of the model.",
    CANCEL,
    Weight.PAYS,
    *("background", "cancel", "model"),
)
async def closes_call(trial: Trial) -> None:
    prompt = trial.prompt(pieces=2000, pace_ms=50)
    follower = Follower(trial, prompt, POLL)
    response_id = await follower.start()
    call = await trial.called(prompt, pieces=5)
    (await trial.client().cancel(response_id)).success()
    closed = "the call of the model was not closed"
    await trial.wait(lambda: call.closed_by_caller or None, trial.limits.cancel_seconds, closed)
    await trial.check_calls_later(prompt)


@case(
    "cancel.closes_silent_call",
    "A cancellation closes the call of a model that has sent nothing yet.",
    CANCEL,
    Weight.PAYS,
    *("background", "cancel", "model"),
)
async def closes_silent_call(trial: Trial) -> None:
    prompt = trial.prompt(pieces=10, hold=0)
    follower = Follower(trial, prompt, POLL)
    response_id = await follower.start()
    call = await trial.called(prompt)
    (await trial.client().cancel(response_id)).success()
    closed = "the call of the model was not closed"
    await trial.wait(lambda: call.closed_by_caller or None, trial.limits.cancel_seconds, closed)
    _check_cancelled(await follower.finish(trial.limits.answer_seconds))
    await trial.check_calls_later(prompt)


@case(
    "cancel.stays",
    "A cancelled response never becomes completed, also if the model goes on.",
    CANCEL,
    Weight.MISLEADS,
    *("background", "cancel", "model"),
)
async def stays(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    follower = await _cancelled(trial, prompt, POLL)
    trial.release(prompt)
    # If the call of the model was not closed, the answer ends within this time.
    await asyncio.sleep(2)
    for server in (0, 1):
        _check_cancelled((await trial.client(server).retrieve(follower.response_id)).success())


@case(
    "cancel.twice",
    "A second cancellation changes nothing, and is no error.",
    CANCEL,
    Weight.INCONVENIENT,
    *("background", "cancel"),
)
async def twice(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    follower = await _cancelled(trial, prompt, POLL)
    again = (await trial.client(1).cancel(follower.response_id)).success()
    _check_cancelled(again)


@case(
    "cancel.completed",
    "A cancellation after the end leaves a completed response as it is.",
    CANCEL,
    Weight.LOSES,
    *("background", "cancel"),
)
async def completed(trial: Trial) -> None:
    prompt = trial.prompt(pieces=10)
    follower = Follower(trial, prompt, POLL)
    response_id = await follower.start()
    trial.check_completed(prompt, await follower.finish())
    reply = await trial.client(1).cancel(response_id)
    if reply.status >= 500:
        raise Broken(f"the cancellation gets {reply.status}")
    trial.check_completed(prompt, (await trial.client().retrieve(response_id)).success())


@case(
    "cancel.at_end",
    "A cancellation that races the end has one result, which all clients see and which stays.",
    CANCEL,
    Weight.MISLEADS,
    *(*NEEDS[STREAM], "cancel", "model"),
    deadline=60,
)
async def at_end(trial: Trial) -> None:
    async def one(number: int) -> None:
        prompt = trial.prompt(pieces=20, hold=20)
        follower = Follower(trial, prompt, STREAM, number)
        try:
            response_id = await follower.start()
            await trial.called(prompt, pieces=20)
            trial.release(prompt)
            await asyncio.sleep(trial.random.uniform(0, 0.02))
            reply = await trial.client(number + 1).cancel(response_id)
            if reply.status >= 500:
                raise Broken(f"the cancellation gets {reply.status}")
            streamed = await follower.finish(trial.limits.answer_seconds)
        finally:
            await follower.close()
        first = await trial.poll(response_id, number)
        await asyncio.sleep(1)  # a wrong result may be written late
        later = await trial.poll(response_id, number + 1)
        found = {text_of(r, "status") for r in (streamed, first, later)}
        if len(found) > 1 or not found <= {"completed", "cancelled"}:
            raise Broken(f"the clients see different results: {', '.join(sorted(found))}")
        if found == {"completed"}:
            trial.check_completed(prompt, streamed)

    await asyncio.gather(*(one(number) for number in range(12)))


@case(
    "cancel.keeps_text",
    "A cancelled response keeps the text that its client has received.",
    CANCEL,
    Weight.LOSES,
    *(*NEEDS[STREAM], "cancel", "model"),
)
async def keeps_text(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    follower = await _cancelled(trial, prompt, STREAM)
    response = (await trial.client(1).retrieve(follower.response_id)).success()
    received = "".join(follower.answer.texts.values())
    if output_text(response) != received:
        raise Broken(
            f"the client has received {len(received)} characters, and the response has"
            f" {len(output_text(response))}"
        )
    trial.check_prefix(prompt, received)


@case(
    "cancel.before_call",
    "A response that is cancelled before the model is called never calls it.",
    CANCEL,
    Weight.PAYS,
    *("background", "cancel", "model", "freeze worker", "separate worker"),
)
async def before_call(trial: Trial) -> None:
    prompt = trial.prompt(pieces=5)
    workers = trial.system.with_role("worker")
    for worker in workers:
        trial.system.freeze(worker)
    try:
        follower = Follower(trial, prompt, POLL)
        response_id = await follower.start()
        (await trial.client().cancel(response_id)).success()
    finally:
        for worker in workers:
            trial.system.thaw(worker)
    _check_cancelled(await follower.finish(trial.limits.answer_seconds))
    await asyncio.sleep(2)  # a worker that takes the prompt nevertheless does so within this time
    trial.check_calls(prompt, 0)
