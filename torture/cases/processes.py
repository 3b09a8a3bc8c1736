"""Processes that are killed, frozen or restarted in the middle of an answer."""

from __future__ import annotations

import asyncio

from torture.answer import TERMINAL_STATUSES, Json, output_text, text_of
from torture.case import BACKGROUND, Weight, case
from torture.errors import Broken
from torture.follower import NEEDS, POLL, SHOWN, STREAM, Follower, streams
from torture.system import Member
from torture.trial import Prompt, Trial

WAYS = (STREAM, POLL)
# The model holds before the piece with this number, of 20.
STAGES = {"called": 0, "middle": 10, "end": 20}
_WHEN = {
    "called": "before the first piece",
    "middle": "in the middle of an answer",
    "end": "after the last piece",
}


async def _begin(trial: Trial, way: str, hold: int) -> tuple[Follower, Prompt]:
    """Starts a response, and waits until the model has sent the pieces before `hold`."""
    prompt = trial.prompt(pieces=20, hold=hold)
    follower = Follower(trial, prompt, way)
    await follower.start()
    await trial.called(prompt, pieces=hold)
    return follower, prompt


async def _kill_caller(trial: Trial, prompt: Prompt) -> Member:
    """Kills the process that calls the model, and returns it."""
    member = await trial.caller(trial.calls(prompt)[-1])
    await trial.system.kill(member)
    return member


def _kill_worker(stage: str, way: str) -> None:
    @case(
        f"kill.worker.{stage}.{way}",
        f"If the worker is killed {_WHEN[stage]}, {SHOWN[way]} gets the whole answer.",
        BACKGROUND,
        Weight.LOSES,
        *(*NEEDS[way], "model", "kill worker"),
        deadline=90,
    )
    async def kill_worker(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES[stage])
        try:
            member = await _kill_caller(trial, prompt)
            trial.release(prompt)
            await trial.system.start_again(member)
            trial.check_completed(prompt, await follower.finish())
        finally:
            await follower.close()
        # The second call is necessary. Some targets continue the first answer.
        await trial.check_calls_later(prompt, 2)


def _truthful(way: str) -> None:
    @case(
        f"kill.truthful.{way}",
        f"If the worker is killed in the middle, {SHOWN[way]} is not left without an end.",
        BACKGROUND,
        Weight.LOSES,
        *(*NEEDS[way], "model", "kill worker"),
        deadline=90,
    )
    async def truthful(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES["middle"])
        try:
            member = await _kill_caller(trial, prompt)
            trial.release(prompt)
            await trial.system.start_again(member)
            response = await follower.finish()
        finally:
            await follower.close()
        if text_of(response, "status") == "completed":
            trial.check_completed(prompt, response)


def _kill_all(way: str) -> None:
    @case(
        f"kill.all.{way}",
        f"If all servers and workers are killed and started again, {SHOWN[way]} gets its answer.",
        BACKGROUND,
        Weight.LOSES,
        *(*NEEDS[way], "model", "kill server", "kill worker"),
        deadline=120,
    )
    async def kill_all(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES["middle"])
        try:
            members = trial.system.with_role("server") + trial.system.with_role("worker")
            for member in members:
                await trial.system.kill(member)
            trial.release(prompt)
            await trial.system.heal()
            trial.check_completed(prompt, await follower.finish())
        finally:
            await follower.close()
        await trial.check_calls_later(prompt, 2)


def _most_calls(member: Member) -> int:
    """Returns the maximum number of model calls for a prompt if this process dies."""
    return 2 if "worker" in member.spec.roles else 1


def _kill_server(stage: str, way: str) -> None:
    @case(
        f"kill.server.{stage}.{way}",
        f"If the server is killed {_WHEN[stage]}, {SHOWN[way]} gets the whole answer.",
        BACKGROUND,
        Weight.LOSES,
        *(*NEEDS[way], "model", "kill server"),
        deadline=90,
    )
    async def kill_server(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES[stage])
        try:
            member = trial.member("server")
            await trial.system.kill(member)
            trial.release(prompt)
            await trial.system.start_again(member)
            trial.check_completed(prompt, await follower.finish())
        finally:
            await follower.close()
        await trial.check_calls_later(prompt, _most_calls(member))


def _restart(role: str, way: str) -> None:
    @case(
        f"restart.{role}.{way}",
        f"If the {role} is restarted in the middle of an answer, {SHOWN[way]} gets all of it.",
        BACKGROUND,
        Weight.LOSES,
        *(*NEEDS[way], "model", f"restart {role}"),
        deadline=120,
    )
    async def restart(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES["middle"])
        try:
            if role == "worker":
                member = await trial.caller(trial.calls(prompt)[-1])
            else:
                member = trial.member(role)
            stopping = asyncio.create_task(trial.system.stop_gracefully(member))
            # The model goes on while the process waits for its answers to end.
            await asyncio.sleep(0.5)
            trial.release(prompt)
            await stopping
            await trial.system.start_again(member)
            trial.check_completed(prompt, await follower.finish())
        finally:
            await follower.close()
        await trial.check_calls_later(prompt, _most_calls(member))


def _store(fault: str, way: str) -> None:
    shown = {
        "kill": "is killed and started again",
        "restart": "is restarted",
        "freeze": "hangs for three seconds",
    }[fault]

    @case(
        f"{fault}.store.{way}",
        f"If the store {shown} in the middle of an answer, {SHOWN[way]} gets all of it.",
        BACKGROUND,
        Weight.LOSES,
        *(*NEEDS[way], "model", f"{fault} store"),
        deadline=90,
    )
    async def store(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES["middle"])
        try:
            member = trial.member("store")
            if fault == "freeze":
                trial.system.freeze(member)
                trial.release(prompt)
                await asyncio.sleep(3)
                trial.system.thaw(member)
            else:
                if fault == "kill":
                    await trial.system.kill(member)
                else:
                    await trial.system.stop_gracefully(member)
                trial.release(prompt)
                await trial.system.start_again(member)
            trial.check_completed(prompt, await follower.finish())
        finally:
            await follower.close()
        await trial.check_calls_later(prompt)


def _freeze_worker(way: str) -> None:
    @case(
        f"freeze.worker.{way}",
        f"A worker that was paused writes no second answer; {SHOWN[way]} gets one whole answer.",
        BACKGROUND,
        Weight.MISLEADS,
        *(*NEEDS[way], "model", "freeze worker", "two workers"),
        deadline=120,
    )
    async def freeze_worker(trial: Trial) -> None:
        follower, prompt = await _begin(trial, way, STAGES["middle"])
        member = await trial.caller(trial.calls(prompt)[-1])
        trial.system.freeze(member)
        try:
            # Another worker calls the model, and both calls continue.
            await trial.called(prompt, count=2)
            trial.release(prompt)
            first = await follower.finish()
        finally:
            trial.system.thaw(member)
            await follower.close()
        trial.check_completed(prompt, first)
        await asyncio.sleep(2)  # meanwhile, the paused worker finds that it has lost its lease
        later = await trial.poll(follower.response_id)
        _check_same(first, later)
        trial.check_calls(prompt, 2)


def _check_same(first: Json, later: Json) -> None:
    if text_of(first, "status") != text_of(later, "status"):
        raise Broken(f"the status changed to {later['status']} after the end")
    if output_text(first) != output_text(later):
        raise Broken("the output changed after the end")


for _way in WAYS:
    for _stage in STAGES:
        _kill_worker(_stage, _way)
        _kill_server(_stage, _way)
    _truthful(_way)
    _kill_all(_way)
    for _role in ("server", "worker"):
        _restart(_role, _way)
    for _fault in ("kill", "restart", "freeze"):
        _store(_fault, _way)
    _freeze_worker(_way)


@case(
    "kill.worker.ended",
    "A completed response stays as it is if its worker is killed afterwards.",
    BACKGROUND,
    Weight.LOSES,
    *("background", "model", "kill worker"),
    deadline=60,
)
async def kill_after_end(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20)
    follower = Follower(trial, prompt, POLL)
    await follower.start()
    response = await follower.finish()
    trial.check_completed(prompt, response)
    for member in trial.system.with_role("worker"):
        await trial.system.kill(member)
    await trial.system.heal()
    _check_same(response, await trial.poll(follower.response_id, 1))
    await trial.check_calls_later(prompt)


@case(
    "kill.store_kept",
    "A completed response survives a restart of the store.",
    BACKGROUND,
    Weight.LOSES,
    *("background", "model", "restart store"),
    deadline=60,
)
async def store_keeps(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20)
    follower = Follower(trial, prompt, POLL)
    await follower.start()
    trial.check_completed(prompt, await follower.finish())
    member = trial.member("store")
    await trial.system.stop_gracefully(member)
    await trial.system.start_again(member)
    trial.check_completed(prompt, await trial.poll(follower.response_id))


@case(
    "restart.many",
    "If all servers are restarted one after the other, twenty streams lose nothing.",
    BACKGROUND,
    Weight.LOSES,
    *(*NEEDS[STREAM], "model", "restart server", "two servers"),
    deadline=150,
)
async def restart_many(trial: Trial) -> None:
    prompts = [trial.prompt(pieces=200, pace_ms=20) for _ in range(20)]
    async with streams(trial, prompts) as finish:
        for member in trial.system.with_role("server"):
            await trial.system.stop_gracefully(member)
            await trial.system.start_again(member)
        found = await finish()
    for prompt, response in zip(prompts, found, strict=True):
        if text_of(response, "status") not in TERMINAL_STATUSES:
            raise Broken("a response has not ended")
        trial.check_completed(prompt, response)
        trial.check_calls(prompt, _most_calls(trial.member("server")))
