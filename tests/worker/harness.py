"""A queue client in the test's own process: submits, claims and executes jobs, and reads logs."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from jobs.ids import new_response_id
from jobs.log.codec import Event, decode_event
from jobs.log.events import RESTARTED, begins, output_text, submitted
from jobs.log.log import read_all
from jobs.log.view import View
from jobs.record import Job
from jobs.replies import Grant
from tests.fake_model import FakeModel
from tests.system import wait_until
from worker.config import Config, load
from worker.context import WorkerContext
from worker.execute import Execution

QUICK = {
    "HOLDLINE_LEASE_SECONDS": "0.6",
    "HOLDLINE_FIRST_TOKEN_SECONDS": "8",
    "HOLDLINE_STALL_TIMEOUT_SECONDS": "8",
    "HOLDLINE_MODEL_TIMEOUT_SECONDS": "8",
    "HOLDLINE_SHUTDOWN_GRACE_SECONDS": "0.2",
    "HOLDLINE_MAX_OUTPUT_BYTES": "1000000",
    "HOLDLINE_REDIS_RETRY_SECONDS": "2",
    "OPENAI_API_KEY": "sk-secret",
}


TOKENS = itertools.count()


class Harness:
    """Submits prompts, claims and executes their jobs, and reads their logs."""

    def __init__(self, context: WorkerContext, model: FakeModel) -> None:
        self.context = context
        self.model = model
        self.ids: list[str] = []

    @property
    def only(self) -> str:
        """The id of the only response that was submitted."""
        (response_id,) = self.ids
        return response_id

    async def submit(self, prompt: str = "hi", **more: Any) -> str:
        partition = more.pop("partition", 0)
        fails = more.pop("fail_on_worker_death", None)
        job = Job(new_response_id(partition), "me", 1, {"model": "m", "input": prompt} | more)
        await self.context.queue.submit(
            job, submitted(job), begins=begins(job), fail_on_worker_death=fails
        )
        self.ids.append(job.id)
        return job.id

    async def claim(self) -> Grant:
        """Claims the next job as soon as it becomes available."""

        async def claimed() -> list[Grant]:
            if not (grants := await self.context.queue.leases.claim(0, f"token{next(TOKENS)}", 1)):
                await self.context.queue.leases.rescue(0, f"rescue{next(TOKENS)}")
            return grants

        grants: list[Grant] = await wait_until(claimed)
        return grants[0]

    def execution(self, grant: Grant) -> Execution:
        return Execution(self.context, 0, grant)

    async def execute(self, prompt: str, attempts: int = 1, **more: Any) -> View:
        """Submits a prompt and runs the given number of attempts."""
        response_id = await self.submit(prompt, **more)
        for _ in range(attempts):
            await self.execution(await self.claim()).run()
        return await self.view(response_id)

    async def view(self, response_id: str) -> View:
        return await read_all(self.context.pipe, response_id)

    async def events(self, response_id: str) -> list[Event]:
        return [decode_event(entry) for entry in (await self.view(response_id)).entries]

    async def until_said(self, response_id: str, text: str) -> None:
        """Returns when the log contains exactly the given text."""

        async def is_said() -> bool:
            return text == said(await self.events(response_id))

        await wait_until(is_said)

    async def until_text(self, response_id: str) -> None:
        """Returns when the log contains any text."""

        async def any_said() -> str:
            return said(await self.events(response_id))

        await wait_until(any_said)

    async def ended(self, response_id: str, seconds: float = 20.0) -> View:
        """Waits for the end of the response and returns its log."""

        async def end() -> View | None:
            view = await self.view(response_id)
            return view if view.status.ended else None

        view: View = await wait_until(end, seconds)
        return view


async def begun(harness: Harness) -> asyncio.Task[None]:
    """Starts an attempt and returns when the model has sent text."""
    running = asyncio.create_task(harness.execution(await harness.claim()).run())
    await wait_until(lambda: harness.model.calls and harness.model.calls[-1].sent)
    return running


def numbered(call: int, tokens: int = 20) -> str:
    """Returns the text that call number `call` of the fake model sends."""
    return "".join(f"c{call}t{index} " for index in range(tokens))


def said(events: list[Event]) -> str:
    """Joins the deltas after the last restart, which is the text that a client shows."""
    text = ""
    for event in events:
        if event["type"] == RESTARTED:
            text = ""
        text += event.get("delta", "")
    return text


def response(events: list[Event]) -> dict[str, Any]:
    """Returns the response object of the last event."""
    found: dict[str, Any] = events[-1]["response"]
    assert said(events) == output_text(found["output"])
    return found


def configured(redis_url: str, model: FakeModel, **environ: str) -> Config:
    return load({**QUICK, "REDIS_URL": redis_url, "OPENAI_BASE_URL": model.url, **environ})
