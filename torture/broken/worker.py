"""Claims responses, calls the model and writes the answers into the logs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import Final

from aiohttp import ClientSession

from torture.broken.events import Json, conversation_of, delta, ending
from torture.broken.faults import Fault
from torture.broken.model_call import CutError, ModelError, pieces, session
from torture.broken.prompt import chat_request
from torture.broken.store import RACE_SECONDS, Claim, LeaseLostError, Store, input_items

CLAIM_SECONDS: Final = 0.02
WATCH_SECONDS: Final = 0.1
BATCH_SECONDS: Final = 0.02
MAX_BATCH: Final = 50
DRAIN_SECONDS: Final = 8.0
MAX_RUNNING: Final = 100


class Batch:
    """Collects the deltas of an answer, and appends them together."""

    def __init__(self, store: Store, claim: Claim, fault: Fault | None) -> None:
        self._store = store
        self._claim = claim
        self._fault = fault
        self._waiting: list[Json] = []
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())
        self.stopped = False

    async def add(self, event: Json) -> None:
        """Adds a delta. Yields to other tasks, because a fast model's stream never does.

        Raises:
            LeaseLostError: The worker no longer owns the response.
        """
        self._waiting.append(event)
        self._wake.set()
        if len(self._waiting) >= MAX_BATCH:
            self._append()
            await asyncio.sleep(0)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._append()
            await asyncio.sleep(BATCH_SECONDS)

    def _append(self) -> None:
        if self._waiting and not self.stopped:
            waiting, self._waiting = self._waiting, []
            try:
                self._store.append(self._claim, waiting)
            except LeaseLostError:
                if self._fault is not Fault.CANCEL_LEAVES_CALL:
                    raise

    async def close(self) -> None:
        """Appends the rest. Raises: LeaseLostError."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._append()


class Worker:
    """Runs the answers that it has claimed, until SIGTERM."""

    def __init__(self, store: Store, model_url: str, fault: Fault | None) -> None:
        self._store = store
        self._model_url = model_url
        self._fault = fault
        self._stopping = asyncio.Event()
        self._running: dict[asyncio.Task[None], Claim] = {}
        self._batches: set[Batch] = set()

    async def run(self) -> None:
        """Works until SIGTERM, and then gives the running answers some seconds to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        async with session() as client:
            while not self._stopping.is_set():
                claim = None
                if len(self._running) < MAX_RUNNING:
                    claim = await self._store.claim()
                if claim is not None:
                    task = asyncio.create_task(self._work(client, claim))
                    self._running[task] = claim
                    task.add_done_callback(lambda task: self._running.pop(task, None))
                    continue
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), CLAIM_SECONDS)
            await self._drain()

    async def _drain(self) -> None:
        if self._fault is Fault.LOST_TAIL:
            for batch in self._batches:
                batch.stopped = True
        if not self._running:
            return
        claims = dict(self._running)
        _, late = await asyncio.wait(claims, timeout=DRAIN_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in late:
            with contextlib.suppress(LeaseLostError):
                await self._end(claims[task], None, "failed", error="The server is restarting.")

    async def _work(self, client: ClientSession, claim: Claim) -> None:
        """Writes an answer, as long as the response is neither cancelled nor claimed again."""
        answer = asyncio.create_task(self._answer(client, claim))
        keeps_calling = self._fault in (
            Fault.CANCEL_LEAVES_CALL,
            Fault.CANCELLED_THEN_COMPLETED,
            Fault.NO_FENCE,
            Fault.DOUBLE_CLAIM,
        )
        try:
            while not answer.done() and (self._store.renew(claim) or keeps_calling):
                await asyncio.wait([answer], timeout=WATCH_SECONDS)
        finally:
            answer.cancel()
            with contextlib.suppress(LeaseLostError, asyncio.CancelledError):
                await answer

    async def _answer(self, client: ClientSession, claim: Claim) -> None:
        """Calls the model, and appends its answer. Raises: LeaseLostError."""
        if claim.text and self._fault is not Fault.NO_FENCE:
            # The text of another call would not continue the text that clients have received.
            await self._end(claim, claim.text, "failed", error="The answer was interrupted.")
            return
        text, finish, failure = "", "", None
        batch = Batch(self._store, claim, self._fault)
        self._batches.add(batch)
        body = chat_request(self._store, claim.request, self._fault)
        try:
            async with contextlib.aclosing(pieces(client, self._model_url, body)) as received:
                async for piece, reason in received:
                    text, finish = text + piece, reason
                    await batch.add(delta(claim.id, piece))
        except ModelError as error:
            failure = error
        finally:
            self._batches.discard(batch)
            await batch.close()
        hidden = self._fault is Fault.ERROR_HIDDEN or (
            self._fault is Fault.COMPLETED_AFTER_CUT and isinstance(failure, CutError)
        )
        if failure is not None and not hidden:
            await self._end(claim, text, "failed", error=str(failure), code=failure.code)
        elif finish == "length":
            await self._end(claim, text, "incomplete", reason="max_output_tokens")
        elif finish == "content_filter":
            await self._end(claim, text, "incomplete", reason="content_filter")
        else:
            await self._end(claim, text, "completed")

    async def _end(
        self,
        claim: Claim,
        text: str | None,
        status: str,
        *,
        error: str = "",
        code: str = "server_error",
        reason: str | None = None,
    ) -> None:
        """Appends the last events. Without a text, uses that of the log. Raises: LeaseLostError."""
        if text is None:
            text = self._store.text(claim.id)
        told = {"code": code, "message": error} if error else None
        events, final = ending(claim.response, text, status, error=told, reason=reason)
        conversation = conversation_of(claim.request)
        if conversation and self._fault is Fault.LOST_TURN:
            items = self._store.items(conversation)
            await asyncio.sleep(RACE_SECONDS)
            turn = [*input_items(claim.request), *final["output"]]
            self._store.replace_items(conversation, [*items, *turn])
        self._store.append(claim, events, final)
