"""One socket's memory: its unstored answers, and the answers that its client has received.

The standard lets a client continue from an answer with `store: false` on the socket that delivered
it. Redis holds such an answer only until its delivery, so each lane keeps its latest unstored
answer here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from server.api.context import Context

MAX_LANES: Final = 33  # the standard's 32 named lanes and the lane without a name
MAX_BYTES: Final = 4 * 1_048_576
MAX_BYTES_OF_ALL: Final = 128 * 1_048_576
MAX_ASKED: Final = 256

Items = list[dict[str, Any]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[Items, frozenset[str]]).decode


class _Turn(NamedTuple):
    response_id: str
    context: bytes


class ByteLimiter:
    """Limits the total bytes that the sockets of a process keep in memory."""

    def __init__(self, most: int = MAX_BYTES_OF_ALL) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """Reserves `size` bytes; returns False if they would exceed the limit.

        A negative size frees bytes.
        """
        if size > 0 and self.used + size > self.most:
            return False
        self.used += size
        return True


class UnstoredTurns:
    """The latest unstored answer of each lane, with all earlier items of its conversation.

    If there are more than `MAX_LANES` lanes or `MAX_BYTES` bytes, the oldest answer is dropped. An
    answer that alone exceeds `MAX_BYTES`, or that exceeds the process's byte limit, is not kept.
    """

    __slots__ = ("_limiter", "_turns")

    def __init__(self, byte_limiter: ByteLimiter) -> None:
        self._limiter = byte_limiter
        self._turns: dict[str | None, _Turn] = {}

    def keep(self, lane: str | None, response_id: str, context: Context) -> None:
        """Keeps an answer, which replaces the lane's earlier answer."""
        self._drop(lane)
        turn = _Turn(response_id, _pack((context.items, context.void_calls)))
        size = len(turn.context)
        if size > MAX_BYTES:
            return
        while len(self._turns) >= MAX_LANES or self._size + size > MAX_BYTES:
            self._drop(next(iter(self._turns)))
        if self._limiter.take(size):
            self._turns[lane] = turn

    def recall(self, response_id: str | None) -> Context | None:
        """Returns the context up to the end of this response, or None if it is not kept."""
        for turn in self._turns.values():
            if turn.response_id == response_id:
                items, void_calls = _unpack(turn.context)
                return Context(items, void_calls=void_calls)
        return None

    def forget(self, lane: str | None, response_id: str | None) -> None:
        """Drops the lane's answer after a turn on this lane that continued from it has failed.

        A failed turn on another lane is a fork, which leaves this lane's answer unchanged.
        """
        if lane in self._turns and self._turns[lane].response_id == response_id:
            self._drop(lane)

    def clear(self) -> None:
        """Drops all answers of the socket."""
        for lane in list(self._turns):
            self._drop(lane)

    def _drop(self, lane: str | None) -> None:
        turn = self._turns.pop(lane, None)
        if turn is not None:
            self._limiter.take(-len(turn.context))

    @property
    def _size(self) -> int:
        return sum(len(turn.context) for turn in self._turns.values())


class PingAcks:
    """Tracks which answers a client has received.

    Frames arrive in order, so the pong to a ping confirms everything sent before that ping.
    """

    __slots__ = ("_asked", "_number")

    def __init__(self) -> None:
        # A dict of response ids by ping number, in order. An empty deque takes ten times the
        # memory.
        self._asked: dict[int, str] = {}
        self._number = 0

    def ask(self, response_id: str) -> bytes:
        """Returns the payload of the ping to send after the last event of this response."""
        self._number += 1
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[self._number] = response_id
        return str(self._number).encode()

    def pong(self, payload: bytes) -> list[str]:
        """Returns the ids of the responses that a pong confirms, or [] for an unsolicited pong."""
        number = int(payload) if payload.isdigit() and len(payload) < 16 else 0
        if number > self._number:
            return []
        confirmed = [asked for asked in self._asked if asked <= number]
        return [self._asked.pop(asked) for asked in confirmed]
