"""A pool of WebSocket clients that recognize an event by the first bytes of its JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from .client import Arrivals, Client, crowd
from .processes import BenchError

PATH: Final = "/v1/responses"
DELTA: Final = b'{"type":"response.output_text.delta"'
COMPLETED: Final = b'{"type":"response.completed"'
WRONG: Final = (b'{"type":"error"', b'{"type":"response.failed"', b'{"type":"response.incomplete"')


@dataclass(slots=True)
class ClientPool:
    """A pool of WebSockets to one server.

    `times` maps the number of each socket to the time at which its answer was complete.
    """

    whole: Arrivals = field(default_factory=Arrivals)
    events: int = 0
    wrong: bytes = b""
    times: dict[int, float] = field(default_factory=dict)
    clients: list[Client] = field(default_factory=list)
    on_whole: Callable[[int, float], None] = lambda _number, _then: None

    async def connect(self, port: int, numbers: range, *, reads: bool = True) -> None:
        """Opens a socket for each number."""
        self.clients += await crowd(port, PATH, numbers, self.take, reads=reads)

    def take(self, client: Client, payload: bytes) -> None:
        """Handles one message from the server."""
        self.events += 1
        if payload.startswith(DELTA):
            self.piece(client, payload)
        elif payload.startswith(COMPLETED):
            self.times[client.number] = now = time.monotonic()
            self.on_whole(client.number, now)
            self.whole.add()
        elif payload.startswith(WRONG):
            self.wrong = payload[:300]
            self.whole.add()

    def piece(self, client: Client, payload: bytes) -> None:
        """Handles a text delta. A subclass may override this method, which does nothing."""

    async def reached(self, count: int, seconds: float = 120.0) -> None:
        """Waits for `count` completed answers.

        Raises: BenchError if an answer fails or does not arrive in time.
        """
        try:
            await self.whole.reached(count, seconds)
        except TimeoutError:
            raise BenchError(
                f"only {self.whole.count} of {count} responses completed in time"
            ) from None
        if self.wrong:
            raise BenchError(f"a response failed: {self.wrong!r}")


def create(prompt: str) -> bytes:
    """Returns the WebSocket message that requests an answer to a prompt."""
    return json.dumps({"type": "response.create", "input": prompt}).encode()


def resume(response_id: str, after: int = -1) -> bytes:
    """Returns the message that resumes a response after the given sequence number."""
    message = {"type": "holdline:resume", "response_id": response_id, "starting_after": after}
    return json.dumps(message).encode()


async def ask_all(pool: ClientPool, prompt: str) -> None:
    """Sends a prompt once on each socket of the pool, and waits for all answers."""
    before = pool.whole.count
    for client in pool.clients:
        client.send(create(prompt))
    await pool.reached(before + len(pool.clients))
