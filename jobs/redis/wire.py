"""Implements an open connection to Redis: packs commands, batches writes and parses messages.

The connection uses version 2 of the Redis protocol, RESP2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, Protocol

import hiredis

if TYPE_CHECKING:
    from jobs.cipher import Cipher

Argument = str | bytes | int | float


def pack(*command: Argument) -> bytes:
    """Encodes one command in the Redis protocol and returns the bytes."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub is wrong
    return packed


class Connector(Protocol):
    """The interface of objects that open connections: `connection.Redis` and its subclasses."""

    cipher: Cipher | None
    refusal: str | None

    async def stay_connected(self, serve: Callable[[Wire], Awaitable[None]]) -> NoReturn:
        """Opens a connection and passes it to `serve`. Reconnects each time `serve` returns."""


class Writer(Protocol):
    """The part of asyncio's StreamWriter that a Wire uses.

    The Wire keeps a reference to its writer, so the writer lives as long as the connection.
    """

    @property
    def transport(self) -> asyncio.WriteTransport: ...


class Messages(asyncio.Protocol):
    """An asyncio protocol that passes each message to `take` as soon as the message is complete.

    The future `over` is done when the connection has ended. The protocol replaces asyncio's
    StreamReader, which would copy the bytes twice and wake a task in a later iteration of the event
    loop.
    """

    def __init__(self, take: Callable[[object], None]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._take = take
        self._reader = hiredis.Reader()

    def data_received(self, data: bytes) -> None:
        if self.over.done():
            return
        try:
            self._reader.feed(data)
            gets, take = self._reader.gets, self._take
            while (message := gets()) is not False:
                take(message)
        except hiredis.ProtocolError:
            self.over.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        if self.over.done():
            return
        if error is None or isinstance(error, OSError):
            self.over.set_result(None)
        else:
            self.over.set_exception(error)  # the error was raised by `take`


@dataclass(frozen=True, slots=True)
class Wire:
    """An open and authenticated connection to Redis."""

    reader: asyncio.StreamReader
    writer: Writer
    _outgoing: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        """Queues data, which is written with all other data of this event loop iteration."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        """Writes the queued data, or drops the data if the connection is closing.

        uvloop would raise an error for a write to a closing transport. The commands in dropped data
        fail when `receive` returns.
        """
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        transport = self.writer.transport
        if not transport.is_closing():
            transport.write(data)

    async def receive(self, take: Callable[[object], None]) -> None:
        """Passes every message to `take`, and returns when the connection has ended.

        Also returns after bytes that are not valid RESP, and after a hiredis.ProtocolError that
        `take` raises.
        """
        transport = self.writer.transport
        if self.reader.at_eof() or self.reader.exception() or transport.is_closing():
            return
        messages = Messages(take)
        transport.set_protocol(messages)
        # The StreamReader may contain bytes that arrived earlier, so they are processed first.
        # After `feed_eof`, `read` returns these bytes without waiting for more.
        self.reader.feed_eof()
        messages.data_received(await self.reader.read())
        await messages.over

    def close(self) -> None:
        """Closes the connection at once and drops unwritten bytes. May be called repeatedly."""
        self.writer.transport.abort()
