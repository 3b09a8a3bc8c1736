"""An open connection in RESP2: packs commands, batches writes and parses messages."""

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
    """Returns the bytes of one command."""
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub means tuple[..., ...]
    return packed


class Connector(Protocol):
    """Opens connections to one Redis; `connection.Redis` and its subclasses are the connectors."""

    cipher: Cipher | None
    refusal: str | None

    async def stay_connected(self, serve: Callable[[Wire], Awaitable[None]]) -> NoReturn:
        """Opens a connection and calls `serve` with it; opens another one when `serve` returns."""


class Writer(Protocol):
    """The part of asyncio's StreamWriter that a Wire uses; it lives as long as the connection."""

    @property
    def transport(self) -> asyncio.WriteTransport: ...


class Messages(asyncio.Protocol):
    """Passes each message to `take` as soon as its last byte has arrived.

    `over` is done when the connection has ended. This protocol replaces asyncio's StreamReader,
    which would copy the bytes twice and wake a task in a later iteration of the event loop.
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
            self.over.set_exception(error)  # raised by `take`


@dataclass(frozen=True, slots=True)
class Wire:
    """An open, authenticated connection. `close` is idempotent and does not wait."""

    reader: asyncio.StreamReader
    writer: Writer
    _outgoing: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        """Adds data to the batch that is written at the end of this event loop iteration."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(data)

    def _flush(self) -> None:
        """Writes the batch, or drops it if the connection is closing.

        uvloop would raise on a write to a closing transport. The reader of the connection makes
        the pending commands fail.
        """
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        transport = self.writer.transport
        if not transport.is_closing():
            transport.write(data)

    async def receive(self, take: Callable[[object], None]) -> None:
        """Passes every message to `take`; returns when the connection has ended.

        Bytes that are not RESP end it too, as does a hiredis.ProtocolError from `take`.
        """
        transport = self.writer.transport
        if self.reader.at_eof() or self.reader.exception() or transport.is_closing():
            return
        messages = Messages(take)
        transport.set_protocol(messages)
        # The bytes that the StreamReader holds come first. After `feed_eof`, `read` cannot wait.
        self.reader.feed_eof()
        messages.data_received(await self.reader.read())
        await messages.over

    def close(self) -> None:
        """Closes the connection at once and drops unwritten bytes."""
        self.writer.transport.abort()
