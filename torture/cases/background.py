"""Responses in the background, without faults and with clients that vanish."""

from __future__ import annotations

import asyncio

from torture.answer import text_of
from torture.case import BACKGROUND, Weight, case
from torture.errors import Broken
from torture.trial import Prompt, Trial


@case(
    "background.complete",
    "A response in the background ends with the whole answer.",
    BACKGROUND,
    Weight.LOSES,
    "background",
)
async def complete(trial: Trial) -> None:
    prompt = trial.prompt(pieces=60, pace_ms=3)
    reply = (await trial.client().create(trial.body(prompt, background=True))).success()
    trial.check_completed(prompt, await trial.poll(text_of(reply, "id")))
    await trial.check_calls_later(prompt)


@case(
    "background.accepted",
    "A request in the background returns before the answer, with the status queued or in_progress.",
    BACKGROUND,
    Weight.INCONVENIENT,
    *("background", "model"),
)
async def accepted(trial: Trial) -> None:
    prompt = trial.prompt(pieces=10, hold=5)
    create = trial.client().create(trial.body(prompt, background=True))
    reply = (await trial.within(create, "no reply came while the model wrote")).success()
    if (status := text_of(reply, "status")) not in {"queued", "in_progress"}:
        raise Broken(f"the status is {status}")
    await trial.called(prompt, pieces=5)
    running = (await trial.client().retrieve(text_of(reply, "id"))).success()
    if (status := text_of(running, "status")) not in {"queued", "in_progress"}:
        raise Broken(f"the status is {status} while the model writes")
    trial.release(prompt)
    trial.check_completed(prompt, await trial.poll(text_of(reply, "id")))


@case(
    "background.many",
    "Responses in the background that run at the same time do not mix their answers.",
    BACKGROUND,
    Weight.LOSES,
    *("background", "model"),
    deadline=60,
)
async def many(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=40, pace_ms=5) for _ in range(20)]

    async def one(number: int, prompt: Prompt) -> None:
        client = trial.client(number)
        reply = (await client.create(trial.body(prompt, background=True))).success()
        seconds = 2 * trial.limits.answer_seconds
        response = await trial.poll(text_of(reply, "id"), number + 1, seconds)
        trial.check_completed(prompt, response)
        trial.check_calls(prompt)

    await asyncio.gather(*(one(number, prompt) for number, prompt in enumerate(prompts)))


@case(
    "background.unknown",
    "A response that does not exist is reported as 404.",
    BACKGROUND,
    Weight.MISLEADS,
    "background",
)
async def unknown(trial: Trial) -> None:
    reply = await trial.client().retrieve("resp_" + f"{trial.random.getrandbits(96):024x}")
    if reply.status != 404:
        raise Broken(f"the status is {reply.status}")


@case(
    "vanish.stream",
    "If the client of a background stream vanishes, the answer is completed by one call.",
    BACKGROUND,
    Weight.LOSES,
    *("stream", "background", "model"),
)
async def vanish_stream(trial: Trial) -> None:
    prompt = trial.prompt(pieces=30, hold=10)
    stream = await trial.client().stream(trial.body(prompt, background=True))
    answer = await trial.within(stream.until("response.output_text.delta"), "no piece arrived")
    stream.drop()
    await trial.called(prompt, pieces=10)
    trial.release(prompt)
    trial.check_completed(prompt, await trial.poll(answer.response_id, 1))
    await trial.check_calls_later(prompt)


@case(
    "vanish.early",
    "If the client of a background stream vanishes before the model is called, nothing is lost.",
    BACKGROUND,
    Weight.LOSES,
    *("stream", "background", "model"),
)
async def vanish_early(trial: Trial) -> None:
    prompt = trial.prompt(pieces=30)
    stream = await trial.client().stream(trial.body(prompt, background=True))
    answer = await trial.within(stream.until("response.created"), "no event arrived")
    stream.drop()
    trial.check_completed(prompt, await trial.poll(answer.response_id, 1))
    await trial.check_calls_later(prompt)
