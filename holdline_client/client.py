"""Defines `Client`, which receives many answers over one socket."""

from __future__ import annotations

import asyncio
import random
import secrets
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp

from . import protocol
from .answer import Answer
from .connection import Connection, now
from .credential import Credential
from .errors import Closed, Refused, Unreachable
from .exchange import Exchange, Renew
from .feed import Feed, refusal
from .response_state import ResponseState

if TYPE_CHECKING:
    from types import TracebackType

    from .connection import State
    from .credential import Token
    from .protocol import Message

# The server lets a socket follow at most this many responses at once.
MAX_ANSWERS: Final = 256
# The default size limit of a message is enough for the last event of a long answer, which contains
# the text twice.
MESSAGE_BYTES: Final = 32 * 1024 * 1024


def connect(
    url: str,
    *,
    token: Token | None = None,
    timeout: float = 30.0,
    reconnect_timeout: float = 3600.0,
    ping_seconds: float | None = None,
    message_bytes: int = MESSAGE_BYTES,
) -> Client:
    """Returns a client of the server at `url`. Use it as an async context manager.

    `url` is `http://host:port`, the base URL that ends with `/v1`, or the URL of the WebSocket.
    `token` is an API key, a token, or a function that returns a fresh token. The function may be
    async; the client calls it for each connection, and before a socket's token expires. `timeout`
    is the maximum number of seconds for entering the context. `reconnect_timeout` is the number of
    seconds for which answers wait for a lost connection. After that they fail with `unreachable`;
    the client can still follow them by their ids as long as the server keeps them. `ping_seconds`
    is the interval of pings; if the server's interval is shorter, that interval is used.
    `message_bytes` is the maximum size of a received message.

    Raises: ValueError for an invalid address.
    """
    return Client(
        protocol.socket_url(url),
        token=token,
        timeout=timeout,
        reconnect_timeout=reconnect_timeout,
        ping_seconds=ping_seconds,
        message_bytes=message_bytes,
    )


class Client:
    """A connection to a server, and the answers that it receives. `connect` creates a client."""

    def __init__(
        self,
        url: str,
        *,
        token: Token | None,
        timeout: float,
        reconnect_timeout: float,
        ping_seconds: float | None,
        message_bytes: int,
    ) -> None:
        self._url = url
        self._credential = Credential(token)
        self._timeout = timeout
        self._reconnect_timeout = reconnect_timeout
        self._ping_seconds = ping_seconds
        self._message_bytes = message_bytes
        self._limit: int | None = None
        self._answers: dict[str, tuple[Exchange, Answer]] = {}
        self._feeds: dict[str | None, Feed] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._giving_up: asyncio.TimerHandle | None = None
        self._state_changed = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None
        self._connection: Connection | None = None
        self._owner: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<holdline_client.Client {self.state}>"

    async def __aenter__(self) -> Self:
        """Connects to the server.

        Raises: errors.Closed if the server refuses the connection; errors.Unreachable.
        """
        # The socket has no time limit for its lifetime, because each wait on it has its own
        # deadline.
        none = aiohttp.ClientTimeout(total=None)
        self._http = aiohttp.ClientSession(timeout=none)
        self._connection = Connection(
            self._url,
            self._http,
            self,
            credential=self._credential,
            ping_seconds=self._ping_seconds,
            message_bytes=self._message_bytes,
        )
        self._owner = asyncio.create_task(self._run(self._connection), name="holdline client")
        try:
            async with asyncio.timeout(self._timeout):
                while self.state == "connecting":
                    self._state_changed.clear()
                    await self._state_changed.wait()
            self._connected()
        except TimeoutError:
            await self.close()
            why = f"No server replied within {self._timeout:g} seconds."
            raise Unreachable("unreachable", why) from None
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def state(self) -> State:
        """The state of the connection.

        The state is `connecting` until the first welcome message of a server, then `open` or
        `reconnecting`. The state `closed` is final.
        """
        return "connecting" if self._connection is None else self._connection.state

    def ask(
        self,
        input: str | list[dict[str, Any]],  # noqa: A002 - the name in the Responses API
        *,
        model: str | None = None,
        instructions: str | None = None,
        previous_response_id: str | None = None,
        idempotency_key: str | None = None,
        **parameters: Any,
    ) -> Answer:
        """Sends a prompt as soon as there is a connection, and returns its answer at once.

        `parameters` are further fields of a request of the Responses API. If the same request is
        sent again with the same `idempotency_key`, the server returns the same answer, even after a
        crash of this program. Without a key, the client uses a random key, which only protects this
        call from creating two answers.
        """
        named = {
            "model": model,
            "instructions": instructions,
            "previous_response_id": previous_response_id,
        }
        given = {name: value for name, value in named.items() if value is not None}
        key = idempotency_key or secrets.token_hex(16)
        request = {"input": input, **given, **parameters}
        return self._add(Exchange(ResponseState(), request=request, key=key, jitter=random.random))

    def follow(self, response_id: str, *, after: int = -1, item_id: str | None = None) -> Answer:
        """Follows an existing answer: gets all events after a sequence number, then live events.

        `after` and `item_id` are the attributes `last` and `item_id` of an earlier `Answer`. With
        `after`, an iteration yields only the text after that event, and `text` is complete only at
        the end. With `item_id`, the answer starts over if the server's storage has lost that event
        in the meantime.
        """
        state = ResponseState(response_id, after, item_id)
        return self._add(Exchange(state, jitter=random.random))

    def follow_conversation(
        self,
        conversation_id: str | None = None,
        *,
        after: int | None = None,
        event_id: str | None = None,
    ) -> Feed:
        """Follows a conversation, or the list of all conversations of the end user.

        The list is that of the user whose token the client has. `after` and `event_id` are the
        `cursor` of an earlier `Feed`: the new one continues after it. With `after=-1`, it begins
        with the first event, and without `after` it has only new events. A second call for the same
        conversation ends the first feed.
        """
        if self._connection is None:
            raise RuntimeError("the client is not connected: use `async with connect(…) as client`")
        if (earlier := self._feeds.pop(conversation_id, None)) is not None:
            earlier.close()
        cursor = None if after is None else (after, event_id)
        feed = Feed(conversation_id, cursor, self._connection.send, self._remove_feed)
        if self._connection.closed is not None:
            feed.fail(_copy(self._connection.closed))
        else:
            self._feeds[conversation_id] = feed
            feed.opened()
        return feed

    def authenticate(self, token: str) -> None:
        """Uses a fresh token for the current socket and for all later sockets."""
        self._credential.token = token
        if self._connection is not None:
            self._connection.send(protocol.auth(token))

    def probe(self) -> None:
        """Tests the connection within a few seconds, and replaces it if it is dead.

        Call this method when the network has changed or the machine has been asleep.
        """
        if self._connection is not None:
            self._connection.probe()

    async def close(self) -> None:
        """Closes the connection. Answers continue on the server; follow them later by their ids."""
        if self._connection is not None:
            self._connection.end(Closed("client_closed", "This client was closed."))
        owner, self._owner = self._owner, None
        try:
            if owner is not None:
                owner.cancel()
                # `asyncio.wait` raises CancelledError only if the caller is cancelled. Awaiting the
                # task would also raise it because the task is cancelled.
                await asyncio.wait([owner])
                if not owner.cancelled():
                    owner.result()
        finally:
            if self._http is not None:
                await self._http.close()

    # The methods of `Listener`, the receiver of the connection's events

    def opened(self, welcome: Message) -> None:
        """Handles a newly opened socket by sending the pending messages of all answers."""
        self._stop_giving_up()
        limits = welcome.get("limits")
        found = limits.get("message_bytes") if isinstance(limits, dict) else None
        self._limit = found if isinstance(found, int) else None
        for exchange, _ in self._each():
            self._do(exchange, exchange.opened(now(), self._limit))
        for feed in list(self._feeds.values()):
            feed.opened()

    def lost(self) -> None:
        """Handles the loss of an open socket."""
        if self._giving_up is None:
            later = asyncio.get_running_loop().call_later
            self._giving_up = later(self._reconnect_timeout, self._give_up)
        for exchange, _ in self._each():
            exchange.lost()
            self._do(exchange, [])

    def event(self, event: Message) -> None:
        """Handles a received message."""
        if event["type"] == "holdline:pong":
            known = event.get("responses")
            last = known if isinstance(known, dict) else {}
            for exchange, _ in self._each():
                self._do(exchange, exchange.heard(last.get(exchange.state.response_id)))
        elif (meant := self._exchange_of(event)) is not None:
            self._do(meant, meant.received(event, now()))
        else:
            self._received(event)

    def changed(self, state: State) -> None:
        """Handles a change of the connection's state."""
        self._state_changed.set()
        closed = None if self._connection is None else self._connection.closed
        for feed in list(self._feeds.values()):
            if closed is not None:
                feed.fail(_copy(closed))
        for exchange, answer in self._each():
            if state == "closed" and closed is not None:
                exchange.fail(_copy(closed))
                self._do(exchange, [])
            answer.notify()

    def _received(self, event: Message) -> None:
        """Handles a message that belongs to no answer."""
        for feed in list(self._feeds.values()):
            if feed.takes(event):
                if event["type"] == "error":
                    feed.fail(refusal(event))
                else:
                    feed.received(event)

    def _remove_feed(self, feed: Feed) -> None:
        if self._feeds.get(feed.conversation_id) is feed:
            del self._feeds[feed.conversation_id]

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        except Exception as error:
            # A bug in the client must not leave callers waiting forever.
            connection.end(Closed("client_error", f"The client failed: {type(error).__name__}."))
            raise
        finally:
            self._stop_giving_up()
            for timer in self._timers.values():
                timer.cancel()

    def _add(self, exchange: Exchange) -> Answer:
        answer = Answer(exchange, lambda: self.state, self._stop)
        connection = self._connection
        if connection is None:
            raise RuntimeError("the client is not connected: use `async with connect(…) as client`")
        if connection.closed is not None:
            exchange.fail(_copy(connection.closed))
        elif len(self._answers) >= MAX_ANSWERS:
            why = f"At most {MAX_ANSWERS} answers may be in progress. Wait until one finishes."
            exchange.fail(Refused("too_many", why, status=429))
        else:
            self._answers[exchange.lane] = exchange, answer
            if connection.state == "open":
                self._do(exchange, exchange.opened(now(), self._limit))
        return answer

    def _exchange_of(self, event: Message) -> Exchange | None:
        """Returns the exchange that an event belongs to, or None.

        An event names the lane of its exchange, which is one stream on the socket. Only the refusal
        of a cancellation names the response instead.
        """
        if isinstance(lane := event.get("stream_id"), str):
            return self._answers[lane][0] if lane in self._answers else None
        response_id = event.get("response_id")
        meant = (exchange for exchange, _ in self._each() if exchange.state.response_id)
        return next((one for one in meant if one.state.response_id == response_id), None)

    def _stop(self, exchange: Exchange) -> None:
        self._do(exchange, exchange.stop())

    def _do(self, exchange: Exchange, actions: list[Message] | Renew) -> None:
        """Carries out the actions of an exchange, and sets the timer for its next deadline."""
        if self._connection is None:
            return
        if isinstance(actions, Renew):
            self._connection.renew()
        else:
            for message in actions:
                self._connection.send(message)
        _, answer = self._answers.get(exchange.lane, (None, None))
        if (timer := self._timers.pop(exchange.lane, None)) is not None:
            timer.cancel()
        if exchange.settled:
            self._answers.pop(exchange.lane, None)
        elif exchange.due is not None:
            wait = max(exchange.due - now(), 0.0)
            later = asyncio.get_running_loop().call_later
            self._timers[exchange.lane] = later(wait, self._tick, exchange)
        if answer is not None:
            answer.notify()

    def _tick(self, exchange: Exchange) -> None:
        self._do(exchange, exchange.tick(now()))

    def _stop_giving_up(self) -> None:
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        for exchange, _ in self._each():
            why = f"The server was not reachable for {self._reconnect_timeout:g} seconds."
            exchange.fail(Unreachable("unreachable", why))
            self._do(exchange, [])
        for feed in list(self._feeds.values()):
            why = f"The server was not reachable for {self._reconnect_timeout:g} seconds."
            feed.fail(Unreachable("unreachable", why))

    def _connected(self) -> None:
        closed = None if self._connection is None else self._connection.closed
        if closed is not None:
            raise _copy(closed)

    def _each(self) -> list[tuple[Exchange, Answer]]:
        """Returns a copy of the answers, because an iteration may remove settled answers."""
        return list(self._answers.values())


def _copy(closed: Closed) -> Closed:
    """Returns a copy of the error, because each raised error needs its own traceback."""
    return Closed(closed.code, closed.message, close_code=closed.close_code, status=closed.status)
