"""Clients that resume a stream."""

from __future__ import annotations

import asyncio

from torture.answer import Answer, Json
from torture.case import RESUME, Weight, case
from torture.client import ConnectionLost, Refused
from torture.errors import Broken
from torture.trial import Prompt, Trial

_STREAMS = ("stream", "background", "resume")
_NEEDS = (*_STREAMS, "model")


async def _whole(trial: Trial, prompt: Prompt) -> Answer:
    """Streams an answer to its end."""
    async with await trial.client().stream(trial.body(prompt, background=True)) as stream:
        answer = await trial.within(stream.rest(), "the stream did not end")
    trial.check_completed(prompt, answer.final)
    answer.check_resumable()
    return answer


def _same(expected: list[Json], found: list[Json], after: int) -> None:
    """Checks that a resumed stream has exactly the events after a cursor."""
    if expected == found:
        return
    missing = [e["sequence_number"] for e in expected if e not in found]
    more = [e["sequence_number"] for e in found if e not in expected]
    raise Broken(
        f"after event {after}, the stream lacks the events {missing[:5]} of {len(expected)}"
        f" and has the events {more[:5]}, which the first stream did not have so"
    )


@case(
    "resume.every_event",
    "A stream that resumes after any event has exactly the later events.",
    RESUME,
    Weight.LOSES,
    *_STREAMS,
    deadline=60,
)
async def every_event(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20)
    answer = await _whole(trial, prompt)
    for event in answer.events[:-1]:
        after = event["sequence_number"]
        resumed = Answer(answer.response_id, after, late=True)
        await trial.follow(resumed, seconds=trial.limits.answer_seconds)
        later = [one for one in answer.events if one["sequence_number"] > after]
        _same(later, resumed.events, after)
    trial.check_calls(prompt)


@case(
    "resume.from_start",
    "A stream that resumes without a cursor has all events from the first one on.",
    RESUME,
    Weight.LOSES,
    *_STREAMS,
)
async def from_start(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20)
    answer = await _whole(trial, prompt)
    again = Answer(answer.response_id)
    await trial.follow(again, seconds=trial.limits.answer_seconds)
    _same(answer.events, again.events, -1)


async def _reload(trial: Trial, *, servers: bool) -> None:
    """Drops the connection after a few events, and resumes, until the answer has ended."""
    prompt = trial.prompt(pieces=150, pace_ms=20)
    stream = await trial.client().stream(trial.body(prompt, background=True))
    answer = stream.answer
    reloads = 0
    while not answer.ended:
        left = trial.random.randint(1, 12)
        async with asyncio.timeout(trial.limits.answer_seconds), stream:
            async for _ in stream:
                left -= 1
                if not left:
                    break
        if not answer.response_id:
            raise Broken("the first event has no response")
        if not answer.ended:
            reloads += 1
            stream = await trial.client(reloads if servers else 0).resume(answer)
    if reloads < 2:
        raise Broken(
            f"the answer arrived in {reloads + 1} portions: pieces are not sent one by one"
        )
    trial.check_completed(prompt, answer.final)
    if answer.delta_text != answer.text:
        raise Broken("the deltas of all streams together differ from the final output")
    trial.check_calls(prompt)


@case(
    "resume.reload",
    "A client that reloads again and again in the middle of an answer gets each event once.",
    RESUME,
    Weight.LOSES,
    *_STREAMS,
    deadline=60,
)
async def reload(trial: Trial) -> None:
    await _reload(trial, servers=False)


@case(
    "resume.other_server",
    "A stream can resume on another server, in the middle of an answer.",
    RESUME,
    Weight.LOSES,
    *(*_NEEDS, "two servers"),
    deadline=60,
)
async def other_server(trial: Trial) -> None:
    await _reload(trial, servers=True)


@case(
    "resume.second_device",
    "A second client that joins in the middle of an answer gets the same events.",
    RESUME,
    Weight.LOSES,
    *_NEEDS,
)
async def second_device(trial: Trial) -> None:
    prompt = trial.prompt(pieces=30, hold=15)
    async with await trial.client().stream(trial.body(prompt, background=True)) as stream:
        first = await trial.within(stream.until("response.output_text.delta"), "no piece came")
        first.check_resumable()
        second = Answer(first.response_id)
        follow = asyncio.create_task(trial.follow(second, 1, trial.limits.answer_seconds))
        try:
            await trial.called(prompt, pieces=15)
            trial.release(prompt)
            await trial.within(stream.rest(), "the first stream did not end")
            await follow
        finally:
            follow.cancel()
    trial.check_completed(prompt, first.final)
    _same(first.events, second.events, -1)
    trial.check_calls(prompt)


@case(
    "resume.many",
    "Clients that join at random moments of a fast answer miss no event.",
    RESUME,
    Weight.LOSES,
    *_NEEDS,
    deadline=90,
)
async def many(trial: Trial) -> None:
    prompt = trial.prompt(pieces=400, pace_ms=4)
    followers: list[asyncio.Task[Json]] = []
    answers: list[Answer] = []
    async with await trial.client().stream(trial.body(prompt, background=True)) as stream:
        first = await trial.within(stream.until("response.output_text.delta"), "no piece came")
        first.check_resumable()
        reading = asyncio.create_task(stream.rest())
        seconds = 2 * trial.limits.answer_seconds
        try:
            for number in range(40):
                # A client may know any event up to the latest.
                after = trial.random.randint(0, first.cursor)
                joined = Answer(first.response_id, after, late=True)
                answers.append(joined)
                followers.append(asyncio.create_task(trial.follow(joined, number, seconds)))
                await asyncio.sleep(trial.random.uniform(0, 0.03))
            await trial.within(reading, "the first stream did not end", seconds)
            await asyncio.gather(*followers)
        finally:
            for task in (reading, *followers):
                task.cancel()
    trial.check_completed(prompt, first.final)
    for answer in answers:
        later = [one for one in first.events if one["sequence_number"] > answer.since]
        _same(later, answer.events, answer.since)
    trial.check_calls(prompt)


@case(
    "resume.ended",
    "A stream that resumes after the last event ends, or is refused. It does not stay open.",
    RESUME,
    Weight.MISLEADS,
    *_STREAMS,
)
async def ended(trial: Trial) -> None:
    answer = await _whole(trial, trial.prompt(pieces=5))
    for cursor in (answer.cursor, answer.cursor + 1000):
        late = Answer(answer.response_id, cursor, late=True)

        async def read(late: Answer) -> None:
            async with await trial.client().resume(late) as stream:
                await stream.rest()

        try:
            await trial.within(read(late), f"the stream after event {cursor} did not end")
        except ConnectionLost:
            raise
        except Refused as error:
            if error.status >= 500:
                raise
        if late.events:
            raise Broken(f"after event {cursor}, the stream has {len(late.events)} events")


@case(
    "resume.unknown",
    "A request to resume a response that does not exist is refused with 404.",
    RESUME,
    Weight.MISLEADS,
    "resume",
)
async def unknown(trial: Trial) -> None:
    nothing = Answer("resp_" + f"{trial.random.getrandbits(96):024x}", 3)
    try:
        await trial.within(trial.client().resume(nothing), "no reply came")
    except Refused as error:
        if error.status == 404:
            return
        raise
    raise Broken("the server opens a stream for a response that does not exist")
