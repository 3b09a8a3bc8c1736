"""Ends and errors of the model's answer, and their reports to the client."""

from __future__ import annotations

from typing import Any

from torture.answer import field_of, text_of
from torture.case import ERRORS, STREAMING, Weight, case
from torture.errors import Broken
from torture.outcome import FOREGROUND, NEEDS, POLL, STREAM, Outcome, outcome
from torture.trial import Prompt, Trial

WAYS = (STREAM, POLL, FOREGROUND)
_CLIENTS = {STREAM: "a stream", POLL: "a client that polls", FOREGROUND: "a plain request"}


def _check(trial: Trial, prompt: Prompt, found: Outcome) -> None:
    """Checks that a completed answer is whole."""
    if found.status == "completed":
        trial.check_text(prompt, found.text)


# Scripts whose answer breaks off in all calls.
_BREAKS: dict[str, tuple[str, dict[str, Any]]] = {
    "cut": ("whose connection breaks", {"do": "cut"}),
    "no_end": ("that ends without its last event", {"do": "end"}),
    "late_cut": ("that breaks off after the last piece", {"do": "cut", "at": 20}),
    "error_event": ("that ends with an error event", {"do": "event"}),
    "garbage": ("that ends with a broken line", {"do": "garbage"}),
}


def _break(name: str, shown: str, script: dict[str, Any], way: str) -> None:
    @case(
        f"truncation.{name}.{way}",
        f"An answer of the model {shown} is never completed for {_CLIENTS[way]}.",
        STREAMING,
        Weight.MISLEADS,
        *(*NEEDS[way], "model"),
        deadline=60,
    )
    async def broken(trial: Trial) -> None:
        prompt = trial.prompt(**{"pieces": 20, "at": 10, **script})
        (await outcome(trial, prompt, way)).check_not_completed()


for _name, (_shown, _script) in _BREAKS.items():
    for _way in WAYS:
        _break(_name, _shown, _script, _way)


def _limit(name: str, do: str, reason: str, way: str) -> None:
    @case(
        f"truncation.{name}.{way}",
        f"An answer that the model ends with {name} is incomplete ({reason}) for {_CLIENTS[way]}.",
        STREAMING,
        Weight.MISLEADS,
        *(*NEEDS[way], "model"),
    )
    async def limit(trial: Trial) -> None:
        prompt = trial.prompt(pieces=20, at=10, do=do)
        found = await outcome(trial, prompt, way)
        if found.status != "incomplete":
            raise Broken(f"the status is {found.status}")
        if (told := field_of(found.details, "incomplete_details", "reason")) != reason:
            raise Broken(f"the reason is {told}")
        trial.check_prefix(prompt, found.text)
        trial.check_calls(prompt)


for _way in WAYS:
    _limit("length", "length", "max_output_tokens", _way)
    _limit("content_filter", "filter", "content_filter", _way)


def _repeated(way: str) -> None:
    @case(
        f"truncation.repeated.{way}",
        f"If the model's first answer is cut, {_CLIENTS[way]} gets no text that mixes two answers.",
        STREAMING,
        Weight.MISLEADS,
        *(*NEEDS[way], "model"),
        deadline=60,
    )
    async def repeated(trial: Trial) -> None:
        prompt = trial.prompt(pieces=20, at=10, do="cut", times=1)
        found = await outcome(trial, prompt, way)
        _check(trial, prompt, found)
        trial.check_calls(prompt, 2)


for _way in WAYS:
    _repeated(_way)


@case(
    "truncation.silence",
    "If the model sends nothing more, the response ends after the stall timeout, not completed.",
    STREAMING,
    Weight.MISLEADS,
    *("background", "model", "stall timeout"),
    deadline=60,
)
async def silence(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, at=10, do="hang", times=1)
    reply = await trial.client().create(trial.body(prompt, background=True))
    seconds = trial.limits.stall_seconds + trial.limits.recovery_seconds
    response = await trial.poll(text_of(reply.success(), "id"), seconds=seconds)
    # A second call may have brought the whole answer.
    if text_of(response, "status") == "completed":
        trial.check_completed(prompt, response)
    call = trial.calls(prompt)[0]
    if call.running:
        raise Broken("the silent call of the model is still open")


@case(
    "truncation.silent_start",
    "If the model never sends anything, the client is told of a failure, and all calls are closed.",
    STREAMING,
    Weight.MISLEADS,
    *("background", "model", "stall timeout"),
    deadline=60,
)
async def silent_start(trial: Trial) -> None:
    prompt = trial.prompt(pieces=20, do="hang")
    reply = await trial.client().create(trial.body(prompt, background=True))
    # A target may try several times.
    seconds = 4 * trial.limits.stall_seconds + trial.limits.recovery_seconds
    response = await trial.poll(text_of(reply.success(), "id"), seconds=seconds)
    if (status := text_of(response, "status")) != "failed":
        raise Broken(f"the status is {status}")
    closed = "a silent call of the model is still open"
    await trial.wait(
        lambda: not any(call.running for call in trial.calls(prompt)) or None,
        trial.limits.cancel_seconds,
        closed,
    )


# Scripts that refuse all calls.
_REFUSALS: dict[str, tuple[str, dict[str, Any]]] = {
    "rejected": ("400", {"do": "error", "status": 400}),
    "wrong_key": ("401", {"do": "error", "status": 401}),
    "unavailable": ("503", {"do": "error", "status": 503}),
    "page": ("502 and a page of HTML", {"do": "html", "status": 502}),
    "page_as_success": ("200 and a page of HTML", {"do": "html", "status": 200}),
    "empty": ("200 and an empty body", {"do": "empty"}),
}


def _refusal(name: str, shown: str, script: dict[str, Any], way: str) -> None:
    @case(
        f"provider.{name}.{way}",
        f"If the model answers with {shown}, {_CLIENTS[way]} is told of a failure.",
        ERRORS,
        Weight.MISLEADS,
        *(*NEEDS[way], "model"),
        deadline=60,
    )
    async def refusal(trial: Trial) -> None:
        found = await outcome(trial, trial.prompt(pieces=5, **script), way)
        if found.status not in {"failed", "error"}:
            raise Broken(f"the client is told: {found.status}; {found.text[:200]}")


for _name, (_shown, _script) in _REFUSALS.items():
    for _way in WAYS:
        _refusal(_name, _shown, _script, _way)


def _retried(name: str, script: dict[str, Any], way: str) -> None:
    @case(
        f"retry.{name}.{way}",
        f"After one {script['status']} of the model, {_CLIENTS[way]} gets the answer of a retry.",
        ERRORS,
        Weight.LOSES,
        *(*NEEDS[way], "model"),
        deadline=60,
    )
    async def retried(trial: Trial) -> None:
        prompt = trial.prompt(pieces=10, do="error", times=1, **script)
        found = await outcome(trial, prompt, way)
        if found.status != "completed":
            raise Broken(f"the client is told: {found.status}; {found.text[:200]}")
        trial.check_text(prompt, found.text)
        trial.check_calls(prompt, 2)


for _way in WAYS:
    _retried("rate_limit", {"status": 429, "retry_after": 1}, _way)
    _retried("unavailable", {"status": 503}, _way)
