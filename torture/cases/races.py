"""Events at the same time: faults during submits, cancellations, resumes and other faults."""

from __future__ import annotations

import asyncio

from torture.answer import Answer, Json, objects_of, text_of
from torture.case import BACKGROUND, CANCEL, CONVERSATIONS, CREATE, RESUME, Weight, case
from torture.client import ConnectionLost, Refused, Reply
from torture.errors import Broken
from torture.follower import NEEDS, POLL, STREAM, Follower, streams
from torture.trial import Trial

_ROUNDS = 8
_TRIES = 100


async def _accepted(trial: Trial, body: Json, key: str, server: int) -> Reply:
    """Sends a request with its key until a server accepts it, as a client that retries does."""
    last = ""
    for attempt in range(_TRIES):
        try:
            reply = await trial.client(server + attempt).create(body, key)
        except ConnectionLost as error:
            last = str(error)
        else:
            # 409 and 425 mean that the first request is still processed.
            if reply.status < 500 and reply.status not in {409, 425, 429}:
                return reply
            last = f"{reply.status} {reply.text[:100]}"
        await asyncio.sleep(0.1)  # the pause of a client that retries
    raise Broken(f"no server accepts the request in {_TRIES} tries; last: {last}")


@case(
    "race.submit_kill",
    "If a server is killed around a submit, the retried request gets one answer by one call.",
    CREATE,
    Weight.PAYS,
    *("background", "model", "kill server", "two servers", "separate worker"),
    deadline=180,
)
async def submit_kill(trial: Trial) -> None:
    for number in range(_ROUNDS):
        prompt, key = trial.prompt(pieces=5), trial.key()
        body = trial.body(prompt, background=True)
        member = trial.system.with_role("server")[number % 2]
        submit = asyncio.create_task(_accepted(trial, body, key, number))
        try:
            await asyncio.sleep(trial.random.uniform(0, 0.05))
            await trial.system.kill(member)
            reply = await submit
        finally:
            submit.cancel()
            await asyncio.gather(submit, return_exceptions=True)
        response_id = text_of(reply.success(), "id")
        seconds = trial.limits.recovery_seconds
        trial.check_completed(prompt, await trial.poll(response_id, number + 1, seconds))
        await trial.system.start_again(member)
        await trial.check_calls_later(prompt)


@case(
    "race.submit_restart",
    "While the servers are restarted one by one, each retried request gets one answer by one call.",
    CREATE,
    Weight.PAYS,
    *("background", "model", "restart server", "two servers", "separate worker"),
    deadline=180,
)
async def submit_restart(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=5) for _ in range(40)]

    async def one(number: int) -> None:
        await asyncio.sleep(trial.random.uniform(0, 4))
        body = trial.body(prompts[number], background=True)
        reply = await _accepted(trial, body, f"{trial.key()}-{number}", number)
        response_id = text_of(reply.success(), "id")
        seconds = trial.limits.recovery_seconds
        response = await trial.poll(response_id, number + 1, seconds)
        trial.check_completed(prompts[number], response)

    submits = [asyncio.create_task(one(number)) for number in range(len(prompts))]
    try:
        for member in trial.system.with_role("server"):
            await trial.system.stop_gracefully(member)
            await trial.system.start_again(member)
        await asyncio.gather(*submits)
    finally:
        for task in submits:
            task.cancel()
        await asyncio.gather(*submits, return_exceptions=True)
    for prompt in prompts:
        trial.check_calls(prompt)


@case(
    "race.cancel_kill",
    "If the worker is killed while a response is cancelled, the model is not called again.",
    CANCEL,
    Weight.PAYS,
    *("background", "cancel", "model", "kill worker", "separate worker"),
    deadline=90,
)
async def cancel_kill(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    follower = Follower(trial, prompt, POLL)
    response_id = await follower.start()
    member = await trial.caller(await trial.called(prompt, pieces=10))
    await trial.system.kill(member)
    (await trial.client().cancel(response_id)).success()
    await trial.system.start_again(member)
    response = await follower.finish()
    if text_of(response, "status") != "cancelled":
        raise Broken(f"the status is {response['status']}")
    await asyncio.sleep(3)  # a worker that takes over the response does so within this time
    trial.check_calls(prompt)


@case(
    "race.kill_twice",
    "If the worker is killed twice in the middle of one answer, the answer is completed.",
    BACKGROUND,
    Weight.LOSES,
    *(*NEEDS[STREAM], "model", "kill worker"),
    deadline=150,
)
async def kill_twice(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    follower = Follower(trial, prompt, STREAM)
    starts = []
    try:
        await follower.start()
        for count in (1, 2):
            call = await trial.called(prompt, pieces=10, count=count)
            member = await trial.caller(call)
            await trial.system.kill(member)
            # The second call may come from another worker before this one is ready.
            starts.append(asyncio.create_task(trial.system.start_again(member)))
        trial.release(prompt)
        trial.check_completed(prompt, await follower.finish())
    finally:
        await follower.close()
        await asyncio.gather(*starts)
    await trial.check_calls_later(prompt, 3)


@case(
    "race.kill_fast",
    "If workers are killed at random moments of fast answers, no stream loses or repeats an event.",
    BACKGROUND,
    Weight.LOSES,
    *(*NEEDS[STREAM], "model", "kill worker"),
    deadline=150,
)
async def kill_fast(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=300, pace_ms=5) for _ in range(8)]
    async with streams(trial, prompts) as finish:
        for member in trial.system.with_role("worker"):
            await asyncio.sleep(trial.random.uniform(0.1, 0.6))
            await trial.system.kill(member)
            await trial.system.start_again(member)
        found = await finish()
    for prompt, response in zip(prompts, found, strict=True):
        trial.check_completed(prompt, response)
        trial.check_calls(prompt, 1 + len(trial.system.with_role("worker")))


@case(
    "race.freeze_server",
    "If a server hangs in the middle of an answer, another server has all of it.",
    RESUME,
    Weight.LOSES,
    *(*NEEDS[STREAM], "model", "freeze server", "two servers", "separate worker"),
    deadline=60,
)
async def freeze_server(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    stream = await trial.client().stream(trial.body(prompt, background=True))
    answer = await trial.within(stream.until("response.output_text.delta"), "no piece came")
    member = trial.member("server")
    trial.system.freeze(member)
    try:
        stream.drop()
        trial.release(prompt)
        trial.check_completed(prompt, await trial.follow(answer, 1, http=trial.client(1)))
    finally:
        trial.system.thaw(member)
    # The server that hung sends the same events.
    again = Answer(answer.response_id)
    trial.check_completed(prompt, await trial.follow(again, 0))
    await trial.check_calls_later(prompt)


@case(
    "race.store_followers",
    "If the store is restarted under many streams of one answer, each of them gets all of it.",
    RESUME,
    Weight.LOSES,
    *(*NEEDS[STREAM], "model", "restart store"),
    deadline=90,
)
async def store_followers(trial: Trial) -> None:
    prompt = trial.prompt(pieces=200, pace_ms=10)
    stream = await trial.client().stream(trial.body(prompt, background=True))
    answer = await trial.within(stream.until("response.created"), "no event came")
    answers = [Answer(answer.response_id) for _ in range(10)]
    seconds = trial.limits.answer_seconds + trial.limits.recovery_seconds
    follow = [
        asyncio.create_task(trial.follow(one, number, seconds))
        for number, one in enumerate(answers)
    ]
    stream.drop()
    try:
        await trial.called(prompt, pieces=40)
        member = trial.member("store")
        await trial.system.stop_gracefully(member)
        await trial.system.start_again(member)
        for response in await asyncio.gather(*follow):
            trial.check_completed(prompt, response)
    finally:
        for task in follow:
            task.cancel()
        await asyncio.gather(*follow, return_exceptions=True)
    if any(one.events != answers[0].events for one in answers):
        raise Broken("the streams have different events")
    await trial.check_calls_later(prompt)


@case(
    "race.conversation_retry",
    "A turn that is sent twice with one key is in the conversation once.",
    CONVERSATIONS,
    Weight.PAYS,
    *("background", "conversations", "model"),
)
async def conversation_retry(trial: Trial) -> None:
    made = await trial.client().request("POST", "/conversations", {})
    conversation = text_of(made.success(), "id")
    prompt, key = trial.prompt(pieces=10), trial.key()
    body = trial.body(prompt, background=True, conversation=conversation)
    replies = await asyncio.gather(*(_accepted(trial, body, key, n) for n in range(4)))
    ids = {text_of(reply.success(), "id") for reply in replies}
    if len(ids) != 1:
        raise Broken(f"{len(ids)} responses were created")
    trial.check_completed(prompt, await trial.poll(ids.pop()))
    path = f"/conversations/{conversation}/items?order=asc&limit=100"
    items = objects_of((await trial.client().request("GET", path)).success(), "data")
    if len(items) != 2:
        raise Broken(f"the conversation has {len(items)} items, not 2")
    await trial.check_calls_later(prompt)


@case(
    "race.delete",
    "A response that is deleted while it is written is gone, and its streams end.",
    f"{CREATE.rpartition('/')[0]}/delete",
    Weight.MISLEADS,
    *("stream", "background", "model"),
    deadline=60,
)
async def delete(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    async with await trial.client().stream(trial.body(prompt, background=True)) as stream:
        answer = await trial.within(stream.until("response.output_text.delta"), "no piece came")
        path = f"/responses/{answer.response_id}"
        reply = await trial.client(1).request("DELETE", path)
        if not reply.ok:
            # A target may refuse to delete a response that is not complete.
            if reply.status >= 500:
                raise Broken(f"the deletion gets {reply.status}")
            return
        trial.release(prompt)
        seconds = trial.limits.recovery_seconds
        try:
            await trial.within(stream.rest(), "the stream did not end", seconds)
        except Refused as error:
            raise Broken(str(error)) from None
    for server in (0, 1):
        if (gone := await trial.client(server).retrieve(answer.response_id)).status != 404:
            raise Broken(f"after the deletion, the response has the status {gone.status}")
