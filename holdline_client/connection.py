"""Keeps one socket open: connects it, tests it with pings, and replaces it when it dies.

This module knows nothing about answers. A socket counts as open from the server's welcome message
until it is lost. Every wait has a deadline: the wait for the welcome message, for a pong, and for
the next connection attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Literal, Protocol

import aiohttp

from . import protocol, refusals
from .backoff import delay, tries_after_loss
from .keepalive import PING_SECONDS, Action, Keepalive

if TYPE_CHECKING:
    from .credential import Credential
    from .errors import Closed
    from .protocol import Message

State = Literal["connecting", "open", "reconnecting", "closed"]

# The client abandons a socket on which no welcome message arrives within this time.
WELCOME_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0
# If this many messages wait to be written, the connection counts as stuck and is replaced.
MAX_OUTGOING: Final = 2048
# The 4xx statuses of a refused WebSocket upgrade after which the client tries again. All other 4xx
# statuses are final.
_MOMENTARY: Final = frozenset({408, 425, 429})


def now() -> float:
    """Returns a time in seconds that also advances while the machine sleeps, if possible."""
    with contextlib.suppress(AttributeError, OSError):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Listener(Protocol):
    """The receiver of a connection's events. Its methods must not block."""

    def opened(self, welcome: Message) -> None:
        """Handles the welcome message of a new socket, before anything is sent on it."""

    def lost(self) -> None:
        """Handles the loss of a socket that was open."""

    def event(self, event: Message) -> None:
        """Handles a received message."""

    def changed(self, state: State) -> None:
        """Handles a change of the connection's state. After `closed`, no method is called again."""


class Connection:
    """A connection that keeps a socket open while its method `run` runs."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        listener: Listener,
        *,
        credential: Credential,
        ping_seconds: float | None,
        message_bytes: int,
    ) -> None:
        self.state: State = "connecting"
        self.closed: Closed | None = None
        self.credential = credential
        self._url = url
        self._http = http
        self._listener = listener
        self._ping_seconds = ping_seconds
        self._message_bytes = message_bytes
        self._outgoing: deque[str] = deque()
        self._outgoing_ready = asyncio.Event()  # set when a message waits to be written
        # Set when the keepalive, or the wait for the next connection attempt, must check its
        # conditions again.
        self._wake = asyncio.Event()
        self._gone = asyncio.Event()  # set when the socket must be replaced
        self._expiring = asyncio.Event()  # set when the socket's token will expire soon
        self._keepalive: Keepalive | None = None
        self._probe_wanted = False
        self._close_reason = ""
        self._tries = 0
        self._not_before = 0.0

    def send(self, message: Message) -> None:
        """Queues a message for sending.

        Without an open socket the message is dropped, and must be sent again after `opened`.
        """
        if self.state != "open":
            return
        if len(self._outgoing) >= MAX_OUTGOING:
            self.renew()
            return
        self._outgoing.append(protocol.encode(message))
        self._outgoing_ready.set()

    def probe(self) -> None:
        """Tests the connection with a ping and a short deadline.

        If there is no open connection, the next connection attempt starts at once.
        """
        self._probe_wanted = True
        self._wake.set()

    def renew(self) -> None:
        """Replaces the socket at once."""
        self._gone.set()

    async def run(self) -> None:
        """Connects, and reconnects until the server or the caller ends the connection."""
        while True:
            after, lived = 0.0, 0.0
            try:
                after, lived = await self._once()
            except aiohttp.WSServerHandshakeError as error:
                after = self._not_upgraded(error)
            except (aiohttp.ClientError, OSError, TimeoutError):
                pass
            if self.closed is not None:
                return
            self._tries = tries_after_loss(self._tries, lived)
            wait = delay(self._tries, random.random(), max(after, self._not_before - now()))  # noqa: S311 - jitter need not be secure
            if after > 0:
                self._not_before = now() + wait
            await self._pause(wait)
            self._tries += 1

    def end(self, closed: Closed) -> None:
        """Ends the connection permanently with this error. The caller then cancels `run`."""
        if self.closed is None:
            self.closed = closed
            self._become("closed")

    async def _pause(self, wait: float) -> None:
        """Waits until the next connection attempt.

        A call to `probe` ends the wait early, unless the server asked for the wait.
        """
        until = now() + wait
        while (left := until - now()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            if self._probe_wanted and now() >= self._not_before:
                self._probe_wanted = False
                return

    def _not_upgraded(self, error: aiohttp.WSServerHandshakeError) -> float:
        """Handles a refused upgrade, and returns its Retry-After in seconds.

        Ends the connection permanently if another attempt cannot succeed.
        """
        if 400 <= error.status < 500 and error.status not in _MOMENTARY:
            self.end(refusals.refused_with(error.status, has_credential=self._has_credential))
        stated = "0" if error.headers is None else error.headers.get("Retry-After", "0")
        return float(stated) if stated.isdecimal() else 0.0

    async def _once(self) -> tuple[float, float]:
        """Runs one socket until its end.

        Returns the reconnection delay that the server asked for, and the lifetime of the socket,
        both in seconds.
        """
        async with contextlib.AsyncExitStack() as stack:
            headers = await self.credential.headers()
            async with asyncio.timeout(WELCOME_SECONDS):
                ws = await self._http.ws_connect(
                    self._url,
                    headers=headers,
                    protocols=(protocol.SUBPROTOCOL,),
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_SECONDS),
                    max_msg_size=self._message_bytes,
                )
                stack.push_async_callback(_close, ws)
                welcome = await self._welcome(ws)
            if welcome is None:
                return self._advice(ws, welcomed=False), 0.0
            since = now()
            self._begin(welcome)
            try:
                await self._converse(ws)
            finally:
                self._forget()
            lived = now() - since
            if ws.close_code == protocol.NO_CREDENTIAL:
                lived = 0.0  # The server waited for a credential, so the socket was never usable.
            return (0.0 if self._gone.is_set() else self._advice(ws, welcomed=True)), lived

    async def _welcome(self, ws: aiohttp.ClientWebSocketResponse) -> Message | None:
        while True:
            frame = await self._receive(ws)
            if frame.type is not aiohttp.WSMsgType.TEXT:
                return None
            event = protocol.parse_frame(frame.data)
            if event is not None and event["type"] == "holdline:welcome":
                return event

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse) -> aiohttp.WSMessage:
        frame = await ws.receive()
        self._close_reason = frame.extra or "" if frame.type is aiohttp.WSMsgType.CLOSE else ""
        return frame

    def _begin(self, welcome: Message) -> None:
        stated = welcome.get("ping_interval_ms")
        interval = stated / 1000 if isinstance(stated, int) and stated >= 1000 else PING_SECONDS
        self._keepalive = Keepalive(now(), min(interval, self._ping_seconds or interval))
        self._outgoing.clear()
        self._gone.clear()
        self._expiring.clear()
        self._probe_wanted = False
        self._not_before = 0.0
        self._become("open")
        self._listener.opened(welcome)

    def _forget(self) -> None:
        self._keepalive = None
        self._outgoing.clear()
        self._listener.lost()
        if self.closed is None:
            # The state changes before the close handshake, so that nothing is sent during the
            # handshake.
            self._become("reconnecting")

    async def _converse(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        """Runs the tasks of an open socket until the socket has ended or must be replaced."""
        tasks = [
            asyncio.create_task(work, name=f"holdline {name}")
            for name, work in (
                ("read", self._read(ws)),
                ("write", self._write(ws)),
                ("keepalive", self._keep_alive()),
                ("token", self._stay_known()),
                ("gone", self._gone.wait()),
            )
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(
                end, aiohttp.ClientError | OSError | asyncio.CancelledError
            ):
                raise end

    async def _read(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            frame = await self._receive(ws)
            if frame.type in {
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.ERROR,
            }:
                return
            if (event := protocol.parse_frame(frame.data)) is not None:
                self._received(event)

    def _received(self, event: Message) -> None:
        pong = event.get("id") if event["type"] == "holdline:pong" else None
        if self._keepalive is not None:
            self._keepalive.heard(now(), pong)
        if event["type"] == "holdline:expiring":
            self._expiring.set()
        self._listener.event(event)

    async def _write(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._outgoing_ready.wait()
            self._outgoing_ready.clear()
            while self._outgoing:
                await ws.send_str(self._outgoing.popleft())

    async def _stay_known(self) -> None:
        """Sends a fresh token before the socket's token expires, if the client can fetch one."""
        while True:
            await self._expiring.wait()
            self._expiring.clear()
            if self.credential.renewable:
                with contextlib.suppress(OSError, aiohttp.ClientError, TimeoutError):
                    if (token := await self.credential.fetch()) is not None:
                        self.send(protocol.auth(token))

    async def _keep_alive(self) -> None:
        """Sends pings until the socket is dead."""
        keepalive = self._keepalive
        assert keepalive is not None  # noqa: S101 - `_begin` creates it
        while True:
            action = keepalive.tick(now())
            if self._probe_wanted and action is None:
                action = keepalive.probe(now())
            self._probe_wanted = False
            match action:
                case Action.PING:
                    self.send(protocol.ping(keepalive.awaited or ""))
                case Action.DEAD:
                    return
                case None:
                    self._wake.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(max(keepalive.due - now(), 0.001)):
                            await self._wake.wait()

    def _advice(self, ws: aiohttp.ClientWebSocketResponse, *, welcomed: bool) -> float:
        """Handles a closed socket, and returns the delay in seconds before the next attempt.

        Ends the connection permanently if the close code is final.
        """
        code = ws.close_code or 1006
        advice = protocol.close_advice(code, self._close_reason)
        # If the token expired on a socket that the server had accepted, the client can renew the
        # token and connect again.
        renewed = welcomed and code == protocol.UNAUTHENTICATED and self.credential.renewable
        if not advice.come_back and not renewed:
            self.end(refusals.closed_with(code, has_credential=self._has_credential))
        return advice.after

    @property
    def _has_credential(self) -> bool:
        return self.credential.token is not None

    def _become(self, state: State) -> None:
        if self.state != state:
            self.state = state
            self._listener.changed(state)


async def _close(ws: aiohttp.ClientWebSocketResponse) -> None:
    """Closes the socket, and does not wait long for the reply of a dead connection."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_SECONDS):
            await ws.close()
