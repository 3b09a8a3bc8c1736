"""Defines `Answer`, the public interface of one answer.

The client does not queue events for the caller. It applies each event to the state of the answer,
and an iteration is only a position in that state. Therefore a slow or absent caller needs no memory
beyond the text.
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

    The answer grows even if the caller does not iterate over it. It continues on the server after
    the client is closed.

        async for piece in answer    yields the pieces of the text as they arrive
        await answer                 returns the whole text when the answer has ended
        answer.events()              yields all events, as the types of `holdline_client.events`

    The joined pieces of one iteration are always a prefix of `text`. If an attempt dies after the
    iteration has yielded pieces, the next attempt writes a different text. The iteration then
    raises `errors.Restarted`, and a new iteration begins with the new text. A restart does not
    affect `await`.

    The iteration and `await` raise `errors.Error` if the answer failed, was refused or does not
    match its checksum; `text` then still has the available text. They raise no error if the answer
    is `incomplete` or `cancelled`, so check `status`.
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
        """The id of the response, or None until the server has accepted the request."""
        return self._exchange.state.response_id

    @property
    def text(self) -> str:
        """The output text of the current attempt so far."""
        return self._exchange.state.text

    @property
    def status(self) -> Status:
        """The current status of the answer.

        While the answer runs, the status is `sending`, `queued` or `in_progress`. At the end it is
        `completed`, `incomplete`, `failed` or `cancelled`.
        """
        return self._exchange.state.status

    @property
    def done(self) -> bool:
        """True when the answer has ended and the client has compared its checksum."""
        return self._exchange.settled

    @property
    def error(self) -> errors.Error | None:
        """The error of a failed answer, or None if the answer runs or did not fail."""
        return self._exchange.error

    @property
    def verified(self) -> bool | None:
        """True if the text matches its SHA-256 checksum, and False if it does not.

        None before the end of the answer, or if the server sent no checksum.
        """
        return self._exchange.verified

    @property
    def queue(self) -> Wait | None:
        """The wait of the request in the queue, or None if it does not wait.

        Its `position` counts from 1. Its `eta_seconds` is the estimated time left, and `reason` the
        cause of the wait.
        """
        return self._exchange.state.wait

    @property
    def attempts(self) -> int:
        """The number of attempts at the answer so far. `text` is from the last attempt only."""
        return self._exchange.state.attempts

    @property
    def model(self) -> str | None:
        """The name of the model, or None until the server has sent it."""
        return self._exchange.state.model

    @property
    def response(self) -> dict[str, Any] | None:
        """The final response object of the Responses API, or None before the end of the answer."""
        return self._exchange.state.response

    @property
    def usage(self) -> dict[str, Any] | None:
        """The token counts in the format of the Responses API, or None before the end."""
        return (self.response or {}).get("usage")

    @property
    def incomplete_reason(self) -> str | None:
        """The reason for the status `incomplete`, such as `max_output_tokens` or `steered`."""
        return ((self.response or {}).get("incomplete_details") or {}).get("reason")

    @property
    def last(self) -> int:
        """The sequence number of the last received event. `Client.follow` can continue after it."""
        return self._exchange.state.last

    @property
    def item_id(self) -> str | None:
        """The item id of the last received event.

        It is "" if the event belongs to no item, and None if the item is unknown.
        """
        return self._exchange.state.item_id

    @property
    def idempotency_key(self) -> str:
        """The idempotency key of the request.

        If the same request is sent again with this key, the server returns this answer and does not
        call the model again.
        """
        return self._exchange.key

    def cancel(self) -> None:
        """Requests the cancellation of the answer, and does not wait for the result.

        At the end of the answer, `status` is `cancelled` if the request came in time.

        Cancelling an asyncio task that iterates over the answer or awaits it stops only the task,
        not the answer.
        """
        self._stop(self._exchange)

    def __await__(self) -> Generator[Any, None, str]:
        return self._whole().__await__()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._text_deltas()

    async def events(self) -> AsyncIterator[Event]:
        """Yields every event from now on, until `Ended`. A failed answer raises no error here.

        A slow consumer gets fewer events. For example, it gets only the latest of several positions
        in the queue.
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
        """Wakes all iterations and awaits after a change of the answer. Called by the client."""
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
