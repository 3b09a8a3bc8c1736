"""The WebSocket mode of the standard."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from torture.answer import Json, output_text, text_of
from torture.case import WEBSOCKET, Weight, case
from torture.client import ConnectionLost
from torture.errors import Broken
from torture.trial import Prompt, Trial
from torture.web_socket import Socket

_NEEDS = ("websocket", "model")


async def _ended(trial: Trial, socket: Socket, count: int = 1) -> list[Json]:
    seconds = trial.limits.answer_seconds
    return await trial.within(socket.until_ended(count), "the responses did not end", seconds)


@case(
    "websocket.complete",
    "Over a WebSocket, each piece of an answer arrives once and in order.",
    WEBSOCKET,
    Weight.LOSES,
    "websocket",
)
async def complete(trial: Trial) -> None:
    prompt = trial.prompt(pieces=60, pace_ms=3)
    async with Socket(trial.client()) as socket:
        await socket.create(trial.body(prompt))
        (response,) = await _ended(trial, socket)
    trial.check_completed(prompt, response)
    trial.check_calls(prompt)


@case(
    "websocket.chain",
    "A second turn on the same WebSocket continues the first one.",
    WEBSOCKET,
    Weight.LOSES,
    *_NEEDS,
)
async def chain(trial: Trial) -> None:
    first, second = trial.prompt(pieces=5), trial.prompt(pieces=5)
    async with Socket(trial.client()) as socket:
        await socket.create(trial.body(first))
        (one,) = await _ended(trial, socket)
        await socket.create(trial.body(second, previous_response_id=text_of(one, "id")))
        (two,) = await _ended(trial, socket)
    trial.check_completed(second, two)
    context = trial.calls(second)[-1].context
    if first.text not in context or output_text(one).strip() not in context:
        raise Broken("the model did not get the first turn")


@case(
    "websocket.unstored",
    "With store: false, a second turn on the same WebSocket continues the first one.",
    WEBSOCKET,
    Weight.LOSES,
    *_NEEDS,
)
async def unstored(trial: Trial) -> None:
    first, second = trial.prompt(pieces=5), trial.prompt(pieces=5)
    async with Socket(trial.client()) as socket:
        await socket.create(trial.body(first, store=False))
        (one,) = await _ended(trial, socket)
        body = trial.body(second, store=False, previous_response_id=text_of(one, "id"))
        await socket.create(body)
        (two,) = await _ended(trial, socket)
    trial.check_completed(second, two)
    if first.text not in trial.calls(second)[-1].context:
        raise Broken("the model did not get the first turn")


@case(
    "websocket.lanes",
    "Requests with different stream_id run side by side on one WebSocket.",
    WEBSOCKET,
    Weight.INCONVENIENT,
    *_NEEDS,
)
async def lanes(trial: Trial) -> None:
    slow, fast = trial.prompt(pieces=20, hold=10), trial.prompt(pieces=20)
    async with Socket(trial.client()) as socket:
        await socket.create(trial.body(slow, stream_id="slow"))
        await trial.called(slow, pieces=10)
        await socket.create(trial.body(fast, stream_id="fast"))
        (first,) = await _ended(trial, socket)
        trial.check_completed(fast, first)
        trial.release(slow)
        (second,) = await _ended(trial, socket)
    trial.check_completed(slow, second)


@case(
    "websocket.order",
    "Requests of one lane that are sent together are answered one after the other.",
    WEBSOCKET,
    Weight.MISLEADS,
    *_NEEDS,
)
async def order(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=10, pace_ms=5) for _ in range(3)]
    async with Socket(trial.client()) as socket:
        for prompt in prompts:
            await socket.create(trial.body(prompt, stream_id="one"))
        found = await _ended(trial, socket, len(prompts))
    for prompt, response in zip(prompts, found, strict=True):
        trial.check_completed(prompt, response)
        trial.check_calls(prompt)


@case(
    "websocket.broken_message",
    "A message that is not valid gets an error, and does not harm the answers on the socket.",
    WEBSOCKET,
    Weight.MISLEADS,
    *_NEEDS,
)
async def broken_message(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    async with Socket(trial.client()) as socket:
        await socket.create(trial.body(prompt))
        await trial.called(prompt, pieces=10)
        await socket.send({"type": "response.invent"})

        async def error() -> None:
            while (await socket.receive())["type"] != "error":
                pass

        await trial.within(error(), "no error came")
        trial.release(prompt)
        (response,) = await _ended(trial, socket)
    trial.check_completed(prompt, response)


async def _begin(trial: Trial, socket: Socket, prompt: Prompt, **fields: Any) -> str:
    """Sends a prompt, and waits until the model holds."""
    await socket.create(trial.body(prompt, **fields))
    await trial.called(prompt, pieces=prompt.script.hold)

    async def created() -> str:
        while not socket.answers:
            await socket.receive()
        return next(iter(socket.answers))

    return await trial.within(created(), "no response.created came")


@case(
    "websocket.lost",
    "If a WebSocket breaks in the middle of a stored answer, the answer is completed and stored.",
    WEBSOCKET,
    Weight.LOSES,
    *(*_NEEDS, "background"),
)
async def lost(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    async with Socket(trial.client()) as socket:
        response_id = await _begin(trial, socket, prompt)
    trial.release(prompt)
    trial.check_completed(prompt, await trial.poll(response_id, 1))
    await trial.check_calls_later(prompt)


@case(
    "websocket.resumed",
    "If a WebSocket breaks in the middle of an answer, an event stream has the later events.",
    WEBSOCKET,
    Weight.LOSES,
    *(*_NEEDS, "background", "resume"),
)
async def resumed(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    async with Socket(trial.client()) as socket:
        response_id = await _begin(trial, socket, prompt)
        answer = socket.answers[response_id]
        while not any(answer.texts.values()):
            await trial.within(socket.receive(), "no piece came")
    trial.release(prompt)
    trial.check_completed(prompt, await trial.follow(answer, 1))
    await trial.check_calls_later(prompt)


@case(
    "websocket.kill_server",
    "If the server of a WebSocket is killed in the middle, the answer is completed and stored.",
    WEBSOCKET,
    Weight.LOSES,
    *(*_NEEDS, "background", "kill server", "separate worker"),
    deadline=60,
)
async def kill_server(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    socket = Socket(trial.client())
    async with socket:
        response_id = await _begin(trial, socket, prompt)
        member = trial.member("server")
        await trial.system.kill(member)
        try:
            while True:
                await trial.within(socket.receive(), "the WebSocket stays open")
        except ConnectionLost:
            pass
    trial.release(prompt)
    await trial.system.start_again(member)
    trial.check_completed(prompt, await trial.poll(response_id, 1))
    await trial.check_calls_later(prompt)


@case(
    "websocket.many",
    "Twenty answers on one WebSocket, each in a lane of its own, are not mixed.",
    WEBSOCKET,
    Weight.LOSES,
    *_NEEDS,
    deadline=60,
)
async def many(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=40, pace_ms=5) for _ in range(20)]
    async with Socket(trial.client()) as socket:
        for number, prompt in enumerate(prompts):
            await socket.create(trial.body(prompt, stream_id=f"lane-{number}"))
        await _ended(trial, socket, len(prompts))
    for number, prompt in enumerate(prompts):
        (response_id,) = socket.lanes[f"lane-{number}"]
        trial.check_completed(prompt, socket.answers[response_id].final)
        trial.check_calls(prompt)


@case(
    "websocket.slow_reader",
    "A client that stops reading its WebSocket for a while loses no stored answer.",
    WEBSOCKET,
    Weight.LOSES,
    *(*_NEEDS, "background", "resume"),
    deadline=90,
)
async def slow_reader(trial: Trial) -> None:
    prompt = trial.prompt(pieces=3000, size=400)
    async with Socket(trial.client(slow=True)) as socket:
        await socket.create(trial.body(prompt))
        while not any(any(one.texts.values()) for one in socket.answers.values()):
            await trial.within(socket.receive(), "no piece came")
        # The client reads nothing, until the model has sent everything and the buffers are full.
        await trial.called(prompt, pieces=prompt.script.pieces)
        await asyncio.sleep(2)
        # The server may disconnect a client that is too slow.
        with contextlib.suppress(ConnectionLost):
            await trial.within(socket.until_ended(), "no end came", trial.limits.recovery_seconds)
    (answer,) = socket.answers.values()
    trial.check_completed(prompt, await trial.follow(answer))
    trial.check_calls(prompt)


@case(
    "websocket.restart_server",
    "If the server of a WebSocket is restarted, the client resumes without a lost event.",
    WEBSOCKET,
    Weight.LOSES,
    *(*_NEEDS, "background", "resume", "restart server", "separate worker"),
    deadline=120,
)
async def restart_server(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, hold=10)
    async with Socket(trial.client()) as socket:
        response_id = await _begin(trial, socket, prompt)
        member = trial.member("server")
        stopping = asyncio.create_task(trial.system.stop_gracefully(member))
        try:
            while True:
                await trial.within(
                    socket.receive(), "the socket stays open", member.spec.stop_seconds
                )
        except ConnectionLost:
            pass
        await stopping
    trial.release(prompt)
    await trial.system.start_again(member)
    answer = socket.answers[response_id]
    trial.check_completed(prompt, await trial.follow(answer, 1))
    await trial.check_calls_later(prompt)


@case(
    "steer.committed",
    "A steer ends the response as incomplete, and a second response continues with its input.",
    WEBSOCKET,
    Weight.LOSES,
    *_NEEDS,
    deadline=60,
)
async def steer(trial: Trial) -> None:
    prompt, more = trial.prompt(pieces=20, hold=10), trial.prompt(pieces=5)
    async with Socket(trial.client()) as socket:
        response_id = await _begin(trial, socket, prompt)
        message = {
            "type": "response.steer",
            "previous_response_id": response_id,
            "input": more.text,
        }
        await socket.send(message)
        first, second = await _ended(trial, socket, 2)
    accepted = [one for one in socket.others if one["type"] == "response.steer.accepted"]
    if len(accepted) != 1:
        raise Broken(f"response.steer.accepted came {len(accepted)} times")
    if text_of(first, "status") != "incomplete":
        raise Broken(f"the first response is {first['status']}")
    trial.check_prefix(prompt, output_text(first))
    trial.check_completed(more, second)
    trial.check_calls(prompt)
    await trial.check_calls_later(more)
    if prompt.text not in trial.calls(more)[-1].context:
        raise Broken("the model did not get the first prompt with the steer")


@case(
    "steer.ended",
    "A steer of a response that has ended is refused with an error.",
    WEBSOCKET,
    Weight.MISLEADS,
    *_NEEDS,
)
async def steer_ended(trial: Trial) -> None:
    prompt, more = trial.prompt(pieces=5), trial.prompt(pieces=5)
    async with Socket(trial.client()) as socket:
        await socket.create(trial.body(prompt))
        (response,) = await _ended(trial, socket)
        message = {"type": "response.steer", "previous_response_id": text_of(response, "id")}
        await socket.send({**message, "input": more.text})
        found = await trial.within(socket.receive(), "no reply came")
    if found["type"] not in {"error", "response.steer.failed"}:
        raise Broken(f"the reply is {found['type']}")
    trial.check_calls(more, 0)


def _steer_killed(role: str) -> None:
    @case(
        f"steer.kill_{role}",
        f"If the {role} is killed after a steer was accepted, the steer is not lost.",
        WEBSOCKET,
        Weight.LOSES,
        *(*_NEEDS, "background", f"kill {role}", "freeze worker"),
        deadline=90,
    )
    async def killed(trial: Trial) -> None:
        prompt, more = trial.prompt(pieces=20, hold=10), trial.prompt(pieces=5)
        async with Socket(trial.client()) as socket:
            response_id = await _begin(trial, socket, prompt)
            workers = trial.system.with_role("worker")
            # The workers must not act on the steer before the process dies.
            for worker in workers:
                trial.system.freeze(worker)
            try:
                message = {"type": "response.steer", "previous_response_id": response_id}
                await socket.send({**message, "input": more.text})
                while not any(one["type"] == "response.steer.accepted" for one in socket.others):
                    await trial.within(socket.receive(), "the steer was not accepted")
                if role == "worker":
                    killed = await trial.caller(trial.calls(prompt)[-1])
                else:
                    killed = trial.member("server")
                await trial.system.kill(killed)
            finally:
                for worker in workers:
                    trial.system.thaw(worker)
        await trial.system.start_again(killed)
        trial.release(prompt)
        seconds = trial.limits.recovery_seconds
        await trial.poll(response_id, 1, seconds)
        await trial.called(more, count=1)
        if prompt.text not in trial.calls(more)[-1].context:
            raise Broken("the model did not get the first prompt with the steer")
        await trial.check_calls_later(more)


for _role in ("server", "worker"):
    _steer_killed(_role)
