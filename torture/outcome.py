"""The end of an answer for a client that does not resume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torture.answer import Json, output_text, text_of
from torture.client import ConnectionLost, Refused
from torture.errors import Broken
from torture.trial import Prompt, Trial

FOREGROUND: Final = "foreground"
STREAM: Final = "stream"
POLL: Final = "poll"
NEEDS: Final = {FOREGROUND: ("responses",), STREAM: ("stream",), POLL: ("background",)}


@dataclass(frozen=True)
class Outcome:
    """The end of an answer.

    Attributes:
        status: that of the response; `error` for an HTTP error or an error event; `lost` for a
            connection that breaks without one.
        text: the output text of the response, or the error.
        details: the response, or {}.
    """

    status: str
    text: str
    details: Json

    def check_not_completed(self) -> None:
        """Checks that the server has not reported the answer as complete.

        Raises:
            Broken: the status is `completed`.
        """
        if self.status == "completed":
            raise Broken(f"the response is completed, with {len(self.text)} characters")


async def outcome(trial: Trial, prompt: Prompt, way: str) -> Outcome:
    """Sends a prompt, and returns the end of its answer.

    Raises:
        Broken: the answer does not end in time, or its events cannot follow each other.
    """
    # A target may retry, which takes as long as a recovery.
    seconds = trial.limits.recovery_seconds
    match way:
        case "foreground":
            body = trial.body(prompt)
            return await trial.within(_foreground(trial, body), "no reply came", seconds)
        case "stream":
            return await trial.within(_stream(trial, prompt), "the stream did not end", seconds)
        case _:
            reply = await trial.client().create(trial.body(prompt, background=True))
            if not reply.ok:
                return Outcome("error", reply.text, {})
            return _ended(await trial.poll(text_of(reply.body, "id"), seconds=seconds))


async def _foreground(trial: Trial, body: Json) -> Outcome:
    try:
        reply = await trial.client().create(body)
    except ConnectionLost as error:
        return Outcome("lost", str(error), {})
    return _ended(reply.body) if reply.ok else Outcome("error", reply.text, {})


async def _stream(trial: Trial, prompt: Prompt) -> Outcome:
    try:
        async with await trial.client().stream(trial.body(prompt)) as stream:
            answer = await stream.rest()
            if answer.ended:
                return _ended(answer.final)
            if stream.errors:
                return Outcome("error", str(stream.errors[-1]), {})
            return Outcome("lost", f"the stream ended after event {answer.cursor}", {})
    except Refused as error:
        return Outcome("error", error.text, {})
    except ConnectionLost as error:
        return Outcome("lost", str(error), {})


def _ended(response: Json) -> Outcome:
    return Outcome(text_of(response, "status"), output_text(response), response)
