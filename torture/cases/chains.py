"""Chains of responses by `previous_response_id`, and conversations."""

from __future__ import annotations

import asyncio
from typing import Any

from torture.answer import Json, objects_of, output_text, text_of
from torture.case import CONVERSATIONS, STATE, Weight, case
from torture.errors import Broken
from torture.follower import POLL, Follower
from torture.trial import Prompt, Trial


async def _turn(trial: Trial, prompt: Prompt, server: int = 0, **fields: Any) -> Json:
    """Runs a turn to its end, in the background if the target can, and returns the response."""
    if "background" not in trial.target.routes:
        return (await trial.client(server).create(trial.body(prompt, **fields))).success()
    follower = Follower(trial, prompt, POLL, server)
    await follower.start(**fields)
    return await follower.finish()


def _check_context(trial: Trial, prompt: Prompt, *texts: str) -> None:
    """Checks that the model has got these texts with a prompt."""
    context = trial.calls(prompt)[-1].context
    missing = [text for text in texts if text not in context]
    if missing:
        raise Broken(f"the model did not get {missing[0][:100]!r}")


@case(
    "chain.context",
    "With previous_response_id, the model gets the earlier prompts and answers.",
    STATE,
    Weight.LOSES,
    *("turns", "model"),
)
async def chain_context(trial: Trial) -> None:
    first, second, third = (trial.prompt(pieces=5) for _ in range(3))
    one = await _turn(trial, first)
    two = await _turn(trial, second, 1, previous_response_id=text_of(one, "id"))
    three = await _turn(trial, third, previous_response_id=text_of(two, "id"))
    trial.check_completed(third, three)
    texts = [first.text, output_text(one).strip(), second.text, output_text(two).strip()]
    _check_context(trial, third, *texts)


@case(
    "chain.branches",
    "Two requests that continue the same response get answers of their own.",
    STATE,
    Weight.LOSES,
    *("turns", "model"),
)
async def chain_branches(trial: Trial) -> None:
    first, left, right = (trial.prompt(pieces=5) for _ in range(3))
    one = await _turn(trial, first)
    found = await asyncio.gather(
        _turn(trial, left, 0, previous_response_id=text_of(one, "id")),
        _turn(trial, right, 1, previous_response_id=text_of(one, "id")),
    )
    for prompt, other, response in ((left, right, found[0]), (right, left, found[1])):
        trial.check_completed(prompt, response)
        _check_context(trial, prompt, first.text)
        if other.text in trial.calls(prompt)[-1].context:
            raise Broken("the model got the prompt of the other branch")


@case(
    "chain.after_failure",
    "A request that continues a failed response is answered or refused, within the usual time.",
    STATE,
    Weight.MISLEADS,
    *("background", "model"),
    deadline=60,
)
async def chain_after_failure(trial: Trial) -> None:
    failing, prompt = trial.prompt(pieces=5, do="error", status=400), trial.prompt(pieces=5)
    reply = await trial.client().create(trial.body(failing, background=True))
    if not reply.ok:
        return  # a target that refuses the first request leaves nothing to continue
    response_id = text_of(reply.body, "id")
    await trial.poll(response_id, seconds=trial.limits.recovery_seconds)
    body = trial.body(prompt, background=True, previous_response_id=response_id)
    again = await trial.client().create(body)
    if again.status >= 500:
        raise Broken(f"the request gets {again.status}: {again.text[:200]}")
    if again.ok:
        trial.check_completed(prompt, await trial.poll(text_of(again.body, "id")))


@case(
    "chain.unknown",
    "A request that continues an unknown response is refused, and does not call the model.",
    STATE,
    Weight.MISLEADS,
    *("background", "model"),
)
async def chain_unknown(trial: Trial) -> None:
    prompt = trial.prompt(pieces=5)
    unknown = "resp_" + f"{trial.random.getrandbits(96):024x}"
    body = trial.body(prompt, background=True, previous_response_id=unknown)
    reply = await trial.client().create(body)
    if not 400 <= reply.status < 500:
        raise Broken(f"the status is {reply.status}")
    trial.check_calls(prompt, 0)


async def _conversation(trial: Trial) -> str:
    reply = await trial.client().request("POST", "/conversations", {})
    return text_of(reply.success(), "id")


async def _items(trial: Trial, conversation: str, server: int = 0) -> list[str]:
    """Returns the texts of the messages of a conversation, in their order."""
    path = f"/conversations/{conversation}/items?order=asc&limit=100"
    reply = (await trial.client(server).request("GET", path)).success()
    return [
        "".join(str(part.get("text", "")) for part in objects_of(item, "content"))
        for item in objects_of(reply, "data")
        if item.get("type") == "message"
    ]


def _check_turn(items: list[str], prompt: Prompt, response: Json) -> None:
    """Checks that a conversation has a prompt once, and its answer once, after the prompt."""
    text = output_text(response)
    if items.count(prompt.text) != 1:
        raise Broken(f"the conversation has the prompt {items.count(prompt.text)} times")
    if items.count(text) != 1:
        raise Broken(f"the conversation has the answer {items.count(text)} times")
    if items.index(text) < items.index(prompt.text):
        raise Broken("the answer comes before its prompt")


@case(
    "conversation.context",
    "In a conversation, the model gets the earlier turns, and each item is stored once.",
    CONVERSATIONS,
    Weight.LOSES,
    *("turns", "conversations", "model"),
)
async def conversation_context(trial: Trial) -> None:
    conversation = await _conversation(trial)
    first, second = trial.prompt(pieces=5), trial.prompt(pieces=5)
    one = await _turn(trial, first, conversation=conversation)
    two = await _turn(trial, second, 1, conversation=conversation)
    trial.check_completed(second, two)
    _check_context(trial, second, first.text, output_text(one).strip())
    items = await _items(trial, conversation)
    _check_turn(items, first, one)
    _check_turn(items, second, two)


@case(
    "conversation.two_writers",
    "If several clients write into a conversation at once, no turn is lost, and all see one order.",
    CONVERSATIONS,
    Weight.LOSES,
    *("turns", "conversations", "model"),
    deadline=60,
)
async def two_writers(trial: Trial) -> None:
    conversation = await _conversation(trial)
    prompts = [trial.prompt(pieces=10, pace_ms=10) for _ in range(6)]
    found = await asyncio.gather(
        *(_turn(trial, one, n, conversation=conversation) for n, one in enumerate(prompts))
    )
    items = await _items(trial, conversation)
    if items != await _items(trial, conversation, 1):
        raise Broken("two servers show different orders")
    for prompt, response in zip(prompts, found, strict=True):
        trial.check_completed(prompt, response)
        _check_turn(items, prompt, response)


@case(
    "conversation.after_failure",
    "After a failed turn, a conversation can be continued.",
    CONVERSATIONS,
    Weight.LOSES,
    *("background", "conversations", "model"),
    deadline=60,
)
async def conversation_after_failure(trial: Trial) -> None:
    conversation = await _conversation(trial)
    failing, prompt = trial.prompt(pieces=5, do="error", status=400), trial.prompt(pieces=5)
    failed = await _turn(trial, failing, conversation=conversation)
    if text_of(failed, "status") != "failed":
        raise Broken(f"the first turn is {failed['status']}")
    response = await _turn(trial, prompt, conversation=conversation)
    trial.check_completed(prompt, response)
    _check_turn(await _items(trial, conversation), prompt, response)


@case(
    "conversation.after_cancel",
    "After a cancelled turn, a conversation can be continued, and has each item once.",
    CONVERSATIONS,
    Weight.LOSES,
    *("background", "cancel", "conversations", "model"),
)
async def conversation_after_cancel(trial: Trial) -> None:
    conversation = await _conversation(trial)
    stopped, prompt = trial.prompt(pieces=20, hold=10), trial.prompt(pieces=5)
    follower = Follower(trial, stopped, POLL)
    response_id = await follower.start(conversation=conversation)
    await trial.called(stopped, pieces=10)
    (await trial.client(1).cancel(response_id)).success()
    await follower.finish()
    response = await _turn(trial, prompt, conversation=conversation)
    trial.check_completed(prompt, response)
    items = await _items(trial, conversation)
    _check_turn(items, prompt, response)
    if items.count(stopped.text) > 1:
        raise Broken("the cancelled prompt is in the conversation twice")


def _killed(role: str) -> None:
    @case(
        f"conversation.kill_{role}",
        f"If the {role} is killed in the middle of a turn, the conversation has the turn once.",
        CONVERSATIONS,
        Weight.LOSES,
        *("background", "conversations", "model", f"kill {role}"),
        deadline=90,
    )
    async def killed(trial: Trial) -> None:
        conversation = await _conversation(trial)
        prompt = trial.prompt(pieces=20, hold=10)
        follower = Follower(trial, prompt, POLL)
        await follower.start(conversation=conversation)
        call = await trial.called(prompt, pieces=10)
        member = await trial.caller(call) if role == "worker" else trial.member(role)
        await trial.system.kill(member)
        trial.release(prompt)
        await trial.system.start_again(member)
        response = await follower.finish()
        trial.check_completed(prompt, response)
        _check_turn(await _items(trial, conversation), prompt, response)


for _role in ("server", "worker"):
    _killed(_role)
