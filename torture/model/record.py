"""The records of the calls of the simulated model."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torture.model.script import Script


@dataclass
class Call:
    """One call of the model. Times are from the monotonic clock.

    Attributes:
        number: counts the calls for this prompt, from 1.
        port: the caller's port.
        context: the text of all messages of the request.
        outcome: `running`, `whole`, `stopped` (as its script says) or `closed by the caller`.
    """

    script: Script
    number: int
    port: int
    api: str
    body: dict[str, Any]
    context: str
    began: float = field(default_factory=time.monotonic)
    pieces: int = 0
    sent_bytes: int = 0
    outcome: str = "running"
    ended: float | None = None

    @property
    def running(self) -> bool:
        """True if the call has not ended."""
        return self.outcome == "running"

    @property
    def closed_by_caller(self) -> bool:
        """True if the caller has closed the connection before the answer ended."""
        return self.outcome == "closed by the caller"


class Records:
    """All calls, by the ids of their prompts."""

    def __init__(self) -> None:
        self._calls: defaultdict[str, list[Call]] = defaultdict(list)
        self._released: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        # Receives each change of a call, as the call and a text.
        self.watch: Callable[[Call, str], None] = lambda _call, _text: None

    def begin(
        self, script: Script, port: int, api: str, body: dict[str, Any], context: str
    ) -> Call:
        """Records a new call."""
        calls = self._calls[script.id]
        call = Call(script, len(calls) + 1, port, api, body, context)
        calls.append(call)
        self.watch(call, f"called ({api})")
        return call

    def end(self, call: Call, outcome: str) -> None:
        """Records how a call has ended."""
        if call.running:
            call.outcome = outcome
            call.ended = time.monotonic()
            self.watch(call, f"{outcome}, after {call.pieces} pieces and {call.sent_bytes} bytes")

    def calls(self, prompt_id: str) -> list[Call]:
        """Returns the calls for a prompt in their order."""
        return list(self._calls[prompt_id])

    def release(self, prompt_id: str) -> None:
        """Lets all held calls for a prompt continue, also later ones."""
        self._released[prompt_id].set()

    async def wait_released(self, prompt_id: str) -> None:
        """Waits until the prompt is released."""
        await self._released[prompt_id].wait()

    def running(self) -> list[Call]:
        """Returns the calls that have not ended."""
        return [call for calls in self._calls.values() for call in calls if call.running]
