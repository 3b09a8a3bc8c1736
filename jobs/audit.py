"""Stores the audit log: which operator changed what with an operator command, and the result.

The audit log is one Redis stream in partition 0. Each change has two entries with the same random
`change`: one that is written before the change is made, and one with its result. A change whose
command died has no result.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec

from .errors import RedisRefused
from .names import Partition
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from .redis.pipe import Pipe

MAX_ENTRIES: Final = 20_000
MAX_VALUE: Final = 500  # the maximum length of a value in characters
PAGE: Final = 500


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change in the audit log.

    `time` is the time by the clock of Redis, in milliseconds. `operator` is the value of
    HOLDLINE_OPERATOR, and `user` and `host` are the names of the system's user and of the machine.
    `before` and `after` describe the target in short. `result` is "done", "failed: " with the class
    of the error, or "" if the command ended without recording the result.
    """

    time: int
    command: str
    target: str
    operator: str
    user: str
    host: str
    before: str
    after: str
    result: str


def new_change() -> str:
    """Returns a random id for a change."""
    return secrets.token_hex(8)


class AuditLog:
    """The audit log in Redis. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, retention_ms: int) -> None:
        self._pipe = pipe
        self._retention_ms = retention_ms
        self._key = Partition(0).audit

    async def append(self, entry: Mapping[str, str]) -> None:
        """Appends an entry, whose values are shortened to `MAX_VALUE` characters."""
        flat = [part for name, value in entry.items() for part in (name, shortened(value))]
        call = calls.audit(
            audit_key=self._key, ttl_ms=self._retention_ms, max_entries=MAX_ENTRIES, entry=flat
        )
        if not isinstance(await self._pipe.run(call), bytes):
            raise RedisRefused("the `audit` script returned an unexpected reply")

    async def changes(self, since_ms: int = 0) -> AsyncIterator[Change]:
        """Yields the changes since a time in milliseconds, in the order in which they began."""
        begun: dict[str, Change] = {}
        start = str(since_ms)
        while True:
            with decoding("the audit log"):
                page = await self._pipe.call("XRANGE", self._key, start, "+", "COUNT", PAGE)
                for id_, flat in page:
                    _add(begun, int(id_.partition(b"-")[0]), flat)
                if len(page) < PAGE:
                    break
                start = f"({page[-1][0].decode()}"
        for change in begun.values():
            yield change

    async def now_ms(self) -> int:
        """Returns the time of Redis's clock in milliseconds."""
        with decoding("the reply to TIME"):
            seconds, micros = await self._pipe.call("TIME")
            return int(seconds) * 1000 + int(micros) // 1000


def shortened(value: str) -> str:
    """Returns a value in the form in which the audit log contains it."""
    return value if len(value) <= MAX_VALUE else f"{value[: MAX_VALUE - 1]}…"


def _add(begun: dict[str, Change], time: int, flat: list[bytes]) -> None:
    """Adds an entry to the change to which it belongs."""
    texts = [part.decode(errors="replace") for part in flat]
    entry = dict(zip(texts[::2], texts[1::2], strict=True))
    id_ = entry.pop("change", "")
    if "result" not in entry:
        names = set(Change.__struct_fields__) - {"time", "result"}
        fields = {name: entry.get(name, "") for name in names}
        begun[id_] = Change(time=time, result="", **fields)
    elif id_ in begun:  # otherwise the first entry is older than the time from which to read
        begun[id_] = msgspec.structs.replace(
            begun[id_], after=entry.get("after", ""), result=entry["result"]
        )
