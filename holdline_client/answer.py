"""The public interface of one answer.

No events are queued between the socket and the caller: they are applied to one state, and an
iteration is a position in it. A slow or absent consumer costs no memory beyond the text.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from . import errors, events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator

    from .events import Event
    from .exchange import Exchange
    from .response_state import Status, Wait


class Answer:
    """A running or finished answer, returned by `Client.ask` and `Client.follow`.

    It grows even if the caller does not iterate, and continues at the server after the client is
    closed.

        async for piece in answer    yields the text, piece by piece, as it arrives
        await answer                 returns the whole text when the answer has ended
        answer.events()              yields all events, as the types of `holdline_client.events`

    The pieces of one iteration, joined, are always a prefix of `text`. If an attempt dies after
    pieces were yielded, this can no longer hold: the iteration raises `errors.Restarted`, and the
    next iteration begins with the new text. A restart does not affect `await`.

    Both raise `errors.Error` if the answer failed, was refused, or does not match its checksum; the
    available text is in `text` nevertheless. `incomplete` and `cancelled` raise no error: check
    `status`.
    """

    def __init__(
        self,
        exchange: Exchange,
        connection_state: Callable[[], str],
        stop: Callable[[Exchange], None],
    ) -> None:
        self._exchange = exchange
        self._connection_state = connection_state
        self._stop = stop
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Answer {self.id or 'not accepted yet'} {self.status}>"

    @property
    def id(self) -> str | None:
        """The response's id; None until the server has accepted the request."""
        return self._exchange.state.response_id

    @property
    def text(self) -> str:
        """All output text so far, of the current attempt only."""
        return self._exchange.state.text

    @property
    def status(self) -> Status:
        """The status of the answer.

        It is `sending`, `queued` or `in_progress`, and at the end `completed`, `incomplete`,
        `failed` or `cancelled`.
        """
        return self._exchange.state.status

    @property
    def done(self) -> bool:
        """True when the answer has ended and its checksum was compared."""
        return self._exchange.settled

    @property
    def error(self) -> errors.Error | None:
        """The error of a failed answer; None while it runs and if it did not fail."""
        return self._exchange.error

    @property
    def verified(self) -> bool | None:
        """True if the text matches its SHA-256; None before the end, or without a checksum."""
        return self._exchange.verified

    @property
    def queue(self) -> Wait | None:
        """The position in the queue; None if the answer does not wait.

        `position` counts from 1; `eta_seconds` and `reason` describe the wait.
        """
        return self._exchange.state.wait

    @property
    def attempts(self) -> int:
        """The number of attempts so far. The text of earlier attempts is discarded."""
        return self._exchange.state.attempts

    @property
    def model(self) -> str | None:
        """The model's name; None until the server has sent it."""
        return self._exchange.state.model

    @property
    def response(self) -> dict[str, Any] | None:
        """The standard's final response object, with its `output`; None before the end."""
        return self._exchange.state.response

    @property
    def usage(self) -> dict[str, Any] | None:
        """The standard's object of token counts; None before the end."""
        return (self.response or {}).get("usage")

    @property
    def incomplete_reason(self) -> str | None:
        """The reason of the status `incomplete`: `max_output_tokens` or `content_filter`."""
        return ((self.response or {}).get("incomplete_details") or {}).get("reason")

    @property
    def last(self) -> int:
        """The sequence number of the last event in `text`; `Client.follow` continues after it."""
        return self._exchange.state.last

    @property
    def item_id(self) -> str | None:
        """The id of the item of the event `last`: "" if it has none, None if that is unknown."""
        return self._exchange.state.item_id

    @property
    def idempotency_key(self) -> str:
        """The idempotency key of the request.

        Sending the same request again with this key attaches to this answer and calls no model.
        """
        return self._exchange.key

    def cancel(self) -> None:
        """Requests cancellation without waiting; `status` then shows whether it came in time.

        Cancelling a task that iterates or awaits stops only that task.
        """
        self._stop(self._exchange)

    def __await__(self) -> Generator[Any, None, str]:
        return self._whole().__await__()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._text_deltas()

    async def events(self) -> AsyncIterator[Event]:
        """Yields every event from now on, `Ended` last; failures raise no error here.

        A slow consumer gets fewer events: of several positions in the queue, only the last one.
        """
        id_: str | None = None
        queue: Wait | None = None
        connection = status = ""
        generation, at, items = self._exchange.state.generation, 0, 0
        while not status:
            state, changed = self._exchange.state, self._changed
            status = state.status if self.done else ""
            if (now := self._connection_state()) != connection and not status:
                connection = now
                yield events.Connection(connection)
            if state.response_id != id_ and state.response_id is not None:
                id_ = state.response_id
                yield events.Accepted(id_)
            if state.generation != generation:
                generation, at, items = state.generation, 0, 0
                yield events.Restarted(state.attempts, state.restart_reason)
            if state.wait != queue:
                queue = state.wait
                if queue is not None:
                    yield events.Queued(queue.position, queue.eta_seconds, queue.reason)
            while at < len(state.deltas) and state.generation == generation:
                at, text = len(state.deltas), "".join(state.deltas[at:])
                yield events.TextDelta(text)
            while items < len(state.done_items) and state.generation == generation:
                items += 1
                yield events.Item(state.done_items[items - 1])
            if status:
                yield events.Ended(status, state.response)
            else:
                await changed.wait()

    def notify(self) -> None:
        """Wakes iterations and awaits after a change; called by the client."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def _text_deltas(self) -> AsyncIterator[str]:
        generation, at = self._exchange.state.generation, 0
        while True:
            state, changed, done = self._exchange.state, self._changed, self.done
            if state.generation != generation:
                if at:
                    raise errors.Restarted(state.attempts, state.restart_reason)
                generation = state.generation
            if at < len(state.deltas):
                text, at = "".join(state.deltas[at:]), len(state.deltas)
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
