"""One answer as its asker sees it.

Nothing is queued between the socket and the asker: what was received is folded into one state, and
an iteration is a place in it. So one who is slow, or never looks, costs no memory beyond the text.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from . import errors, events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from .events import Happening
    from .exchange import Exchange
    from .response_state import Status, Wait


class Answer:
    """An answer that is being made, or was. `Client.ask` and `Client.follow` make them.

    It grows whether or not anybody iterates, and goes on at the server when the client is closed.

        async for piece in answer    the text, piece by piece, as it comes
        await answer                 the whole text, once it has ended
        answer.events()              all that happens, as the types of `holdline_client.events`

    The pieces of one iteration, joined, are at every moment the beginning of `text`. Where an
    attempt dies after pieces were handed out, that cannot be kept: the iteration raises
    `errors.Restarted`, and the next iteration begins with the new text. `await` does not care.

    Both raise `errors.Error` where the answer failed, was refused, or does not match its proof;
    what there is of it is in `text` all the same. `incomplete` and `cancelled` raise nothing: look
    at `status`.
    """

    def __init__(
        self, exchange: Exchange, line: Callable[[], str], stop: Callable[[Exchange], None]
    ) -> None:
        self._exchange = exchange
        self._line = line
        self._stop = stop
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Answer {self.id or 'not accepted yet'} {self.status}>"

    @property
    def id(self) -> str | None:
        """The response's id; None until the server has accepted the request."""
        return self._exchange.fold.response_id

    @property
    def text(self) -> str:
        """All output text so far, of the present attempt alone."""
        return self._exchange.fold.text

    @property
    def status(self) -> Status:
        """`sending`, `queued`, `in_progress`, or one of four ends: `completed`, `incomplete`,
        `failed`, `cancelled`.
        """
        return self._exchange.fold.status

    @property
    def done(self) -> bool:
        """True when it has ended and its proof has been looked at."""
        return self._exchange.settled

    @property
    def error(self) -> errors.Error | None:
        """Why it failed; None while it runs, and where it did not."""
        return self._exchange.error

    @property
    def verified(self) -> bool | None:
        """Whether the text matches its SHA-256; None before the end, and without a proof."""
        return self._exchange.verified

    @property
    def queue(self) -> Wait | None:
        """Where it waits: `position` from 1, `eta_seconds`, `reason`; None when it does not."""
        return self._exchange.fold.wait

    @property
    def attempts(self) -> int:
        """How often a worker has begun it. Above 1, what an earlier attempt wrote is gone."""
        return self._exchange.fold.attempts

    @property
    def model(self) -> str | None:
        """The model's name, once the server has said it."""
        return self._exchange.fold.model

    @property
    def response(self) -> dict[str, Any] | None:
        """The final response object of the standard, with its `output`; None before the end."""
        return self._exchange.fold.response

    @property
    def usage(self) -> dict[str, Any] | None:
        """The tokens, as the standard counts them; None before the end."""
        return (self.response or {}).get("usage")

    @property
    def incomplete_reason(self) -> str | None:
        """Why it is `incomplete`: `max_output_tokens`, `content_filter`."""
        return ((self.response or {}).get("incomplete_details") or {}).get("reason")

    @property
    def last(self) -> int:
        """The sequence number of the last event that is in `text`: a follower goes on there."""
        return self._exchange.fold.last

    @property
    def idempotency_key(self) -> str:
        """Asking the same again with this key attaches to this answer and calls no model."""
        return self._exchange.key

    def cancel(self) -> None:
        """Asks for the end and does not wait: the status will say whether that came in time.

        Cancelling a task that iterates or awaits only stops that task.
        """
        self._stop(self._exchange)

    def __await__(self) -> Generator[Any, None, str]:
        return self._whole().__await__()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._pieces()

    async def events(self) -> AsyncIterator[Happening]:
        """Everything from now on, `Ended` last; raises nothing of its own.

        Who is slow is told less often: of several places in the queue, the last one.
        """
        id_: str | None = None
        queue: Wait | None = None
        line = status = ""
        generation, at, items = self._exchange.fold.generation, 0, 0
        while not status:
            fold, changed = self._exchange.fold, self._changed
            status = fold.status if self.done else ""
            if (now := self._line()) != line and not status:
                line = now
                yield events.Connection(line)
            if fold.response_id != id_ and fold.response_id is not None:
                id_ = fold.response_id
                yield events.Accepted(id_)
            if fold.generation != generation:
                generation, at, items = fold.generation, 0, 0
                yield events.Restarted(fold.attempts, fold.restart_reason)
            if fold.wait != queue:
                queue = fold.wait
                if queue is not None:
                    yield events.Queued(queue.position, queue.eta_seconds, queue.reason)
            while at < len(fold.pieces) and fold.generation == generation:
                at, text = len(fold.pieces), "".join(fold.pieces[at:])
                yield events.TextDelta(text)
            while items < len(fold.done_items) and fold.generation == generation:
                items += 1
                yield events.Item(fold.done_items[items - 1])
            if status:
                yield events.Ended(status, fold.response)
            else:
                await changed.wait()

    def tell(self) -> None:
        """Wakes whoever iterates or awaits; for the client, which has changed something."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _pieces(self) -> AsyncIterator[str]:
        generation, at = self._exchange.fold.generation, 0
        while True:
            fold, changed, done = self._exchange.fold, self._changed, self.done
            if fold.generation != generation:
                if at:
                    raise errors.Restarted(fold.attempts, fold.restart_reason)
                generation = fold.generation
            if at < len(fold.pieces):
                text, at = "".join(fold.pieces[at:]), len(fold.pieces)
                yield text
            elif done:
                self._raise()
                return
            else:
                await changed.wait()

    async def _whole(self) -> str:
        while not self.done:
            await self._changed.wait()
        self._raise()
        return self.text

    def _raise(self) -> None:
        if self.error is not None:
            raise self.error
