"""Reads the memory and the persistence of each Redis master."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from .check import info_fields
from .unexpected_reply import decoding

if TYPE_CHECKING:
    from .pipe import Pipe


# The used share of the memory from which on an operator should act, as in the alert
# `HoldlineRedisFull`.
NEARLY_FULL: Final = 0.9


@dataclass(frozen=True, slots=True)
class NodeState:
    """The state of one Redis master.

    `max_bytes` is 0 if Redis has no memory limit. `append_only` is True if Redis writes an
    append-only file. `writes_fail` is True if the last write of that file or the last snapshot
    failed, so that Redis may refuse writes or lose them.
    """

    name: str
    version: str
    port: int
    used_bytes: int
    max_bytes: int
    append_only: bool
    writes_fail: bool

    @property
    def nearly_full(self) -> bool:
        """True if the memory is so full that Redis soon refuses prompts, or refuses them now."""
        return self.max_bytes > 0 and self.used_bytes > NEARLY_FULL * self.max_bytes

    @property
    def used_share(self) -> float:
        """The used share of the memory limit; 0 if there is no limit."""
        return self.used_bytes / self.max_bytes if self.max_bytes else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns the state as a JSON object."""
        return asdict(self)


async def node_states(pipe: Pipe) -> list[NodeState]:
    """Returns the state of every master. Raises: RedisTrouble."""
    return list(await asyncio.gather(*map(_state, await pipe.nodes())))


async def _state(node: Pipe) -> NodeState:
    sections = ("server", "memory", "persistence")
    found = await asyncio.gather(*(node.call("INFO", section) for section in sections))
    with decoding("the reply to INFO"):
        info = {name: value for text in found for name, value in info_fields(text).items()}
        states = (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status"))
        return NodeState(
            name="Valkey" if "valkey_version" in info else "Redis",
            version=info.get("valkey_version") or info.get("redis_version", ""),
            port=int(info.get("tcp_port", 0)),
            used_bytes=int(info.get("used_memory", 0)),
            max_bytes=int(info.get("maxmemory", 0)),
            append_only=info.get("aof_enabled") == "1",
            writes_fail="err" in states,
        )
