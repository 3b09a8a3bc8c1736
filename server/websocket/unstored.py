"""What one socket remembers: answers that are not stored, and which of them its client has.

The standard lets a client go on from an answer with `store: false` on the socket that brought it.
Such an answer is in Redis only until it is delivered, so each lane keeps its latest one here.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

MAX_LANES: Final = 32
MAX_BYTES: Final = 4 * 1_048_576
MAX_BYTES_OF_ALL: Final = 128 * 1_048_576
MAX_ASKED: Final = 256

Items = list[dict[str, Any]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Items).decode


class _Turn(NamedTuple):
    response_id: str
    items: bytes


class ByteLimiter:
    """Limits the bytes that all sockets of a process keep together."""

    def __init__(self, most: int = MAX_BYTES_OF_ALL) -> None:
        self.most = most
        self.used = 0

    def take(self, size: int) -> bool:
        """False if there is no room for so many bytes more; a negative size gives back."""
        if size > 0 and self.used + size > self.most:
            return False
        self.used += size
        return True


class UnstoredTurns:
    """The latest answer of each lane that is not stored, with all that was said before it.

    Beyond `MAX_LANES` lanes or `MAX_BYTES` the oldest one is forgotten. One that is larger by
    itself, or for which the process has no room, is not kept.
    """

    __slots__ = ("_limiter", "_turns")

    def __init__(self, byte_limiter: ByteLimiter) -> None:
        self._limiter = byte_limiter
        self._turns: dict[str | None, _Turn] = {}

    def keep(self, lane: str | None, response_id: str, items: Items) -> None:
        """Takes the place of what the lane remembered."""
        self._drop(lane)
        turn = _Turn(response_id, _pack(items))
        size = len(turn.items)
        if size > MAX_BYTES:
            return
        while len(self._turns) >= MAX_LANES or self._size + size > MAX_BYTES:
            self._drop(next(iter(self._turns)))
        if self._limiter.take(size):
            self._turns[lane] = turn

    def recall(self, response_id: str | None) -> Items | None:
        """What was said up to the end of this response, oldest first, or None."""
        for turn in self._turns.values():
            if turn.response_id == response_id:
                return _unpack(turn.items)
        return None

    def forget(self, lane: str | None, response_id: str | None) -> None:
        """A turn that went on from this response failed: its own lane must begin anew.

        A turn on another lane, a fork, takes nothing from the lane that it left.
        """
        if lane in self._turns and self._turns[lane].response_id == response_id:
            self._drop(lane)

    def clear(self) -> None:
        """Forgets everything."""
        for lane in list(self._turns):
            self._drop(lane)

    def _drop(self, lane: str | None) -> None:
        turn = self._turns.pop(lane, None)
        if turn is not None:
            self._limiter.take(-len(turn.items))

    @property
    def _size(self) -> int:
        return sum(len(turn.items) for turn in self._turns.values())


class PingAcks:
    """Which answers a client is known to have.

    Frames arrive in order, so the pong to a ping says that all before the ping has arrived.
    """

    __slots__ = ("_asked", "_number")

    def __init__(self) -> None:
        # In the order in which they were asked about. An empty deque has ten times the size.
        self._asked: dict[int, str] = {}
        self._number = 0

    def ask(self, response_id: str) -> bytes:
        """The payload of the ping to send after the last event of this response."""
        self._number += 1
        if len(self._asked) >= MAX_ASKED:
            del self._asked[next(iter(self._asked))]
        self._asked[self._number] = response_id
        return str(self._number).encode()

    def pong(self, payload: bytes) -> list[str]:
        """The responses that this pong confirms; a pong that was not asked for confirms none."""
        number = int(payload) if payload.isdigit() and len(payload) < 16 else 0
        if number > self._number:
            return []
        confirmed = [asked for asked in self._asked if asked <= number]
        return [self._asked.pop(asked) for asked in confirmed]
