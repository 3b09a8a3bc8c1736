"""Stores each turn of a conversation once, for all jobs that continue from it.

A turn consists of the input and output items of an ended response. The server stores a turn when
the first job continues from its response. Redis keeps the turn as long as any job may continue from
it.

A job in a conversation names ranges of the conversation's log instead of turns. `ConversationStore`
reads these ranges, and the job holds the conversation as a whole.

A job holds its turns, so that they stay readable until the job ends. The turns of a conversation
are in different partitions, so one script cannot hold all turns and submit the job. The server
therefore holds the turns first. If the submission fails, the turns are only kept for longer than
necessary.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .errors import TurnMissing
from .ids import is_conversation
from .log.codec import kept_turn, turn_of
from .names import Partition, names_of
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conversations import ConversationStore
    from .record import TurnSlice
    from .redis.pipe import Pipe
    from .scripts import Call

Item = dict[str, Any]


class TurnStore:
    """Stores, reads, holds and releases turns in all partitions. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, ttl_ms: int, conversations: ConversationStore) -> None:
        """`ttl_ms` is the TTL of a job. A turn that is stored or held gets this TTL too."""
        self._pipe = pipe
        self._conversations = conversations
        self._ttl_ms = ttl_ms

    async def keep(self, response_id: str, owner: str, items: list[Item]) -> None:
        """Stores the items of an ended response as a turn.

        Raises: TurnMissing if the response was deleted or has expired.
        """
        names = names_of(response_id)
        kept = await self._pipe.run(
            calls.keep_turn(
                turn_key=names.turn(response_id),
                job_key=names.job(response_id),
                owner=owner,
                items=kept_turn(response_id, items, self._pipe.cipher),
                ttl_ms=self._ttl_ms,
            )
        )
        if not kept:
            raise TurnMissing(response_id)

    async def read(self, turns: list[TurnSlice]) -> list[Item]:
        """Returns the items of turns. Raises: TurnMissing for a deleted turn, Undecodable."""
        if _of_conversation(turns):
            return await self._conversations.load("", turns)
        return self._items(
            turns,
            await self._replies(
                turns,
                lambda names, ids: calls.read_turns(
                    first_turn_key=names.turn(ids[0]), prefix=names.prefix, ids=ids
                ),
            ),
        )

    async def hold(self, job_id: str, turns: list[TurnSlice]) -> None:
        """Holds turns for a job, which can then read them even if their responses are deleted.

        Raises: TurnMissing, also for a turn that was deleted before the job held it.
        """
        if _of_conversation(turns):
            return
        for ids, found in await self._held(job_id, turns, wanted=False):
            if None in found:
                raise TurnMissing(ids[found.index(None)])

    async def load(self, job_id: str, turns: list[TurnSlice]) -> list[Item]:
        """Holds turns for a job and returns their items. Raises: TurnMissing, Undecodable."""
        if _of_conversation(turns):
            return await self._conversations.load(job_id, turns)
        return self._items(turns, await self._held(job_id, turns, wanted=True))

    async def release(self, job_id: str, turns: list[TurnSlice]) -> None:
        """Releases the turns that a job holds. Deleted turns that no job holds are removed."""
        if _of_conversation(turns):
            return
        await self._replies(
            turns,
            lambda names, ids: calls.release_turns(
                first_turn_key=names.turn(ids[0]), prefix=names.prefix, job=job_id, ids=ids
            ),
        )

    async def _held(
        self, job_id: str, turns: list[TurnSlice], *, wanted: bool
    ) -> list[tuple[list[str], Any]]:
        return await self._replies(
            turns,
            lambda names, ids: calls.hold_turns(
                first_turn_key=names.turn(ids[0]),
                prefix=names.prefix,
                job=job_id,
                ttl_ms=self._ttl_ms,
                wanted=int(wanted),
                ids=ids,
            ),
        )

    async def _replies(
        self, turns: list[TurnSlice], call: Callable[[Partition, list[str]], Call]
    ) -> list[tuple[list[str], Any]]:
        """Runs a script in each partition that contains some of the turns.

        Returns a pair for each partition: the ids of its turns, and the reply of the script.
        """
        grouped: dict[Partition, list[str]] = {}
        for id_ in dict.fromkeys(turn.response_id for turn in turns):
            grouped.setdefault(names_of(id_), []).append(id_)
        if not grouped:
            return []
        replies = await asyncio.gather(*(self._pipe.run(call(*one)) for one in grouped.items()))
        return list(zip(grouped.values(), replies, strict=True))

    def _items(self, turns: list[TurnSlice], replies: list[tuple[list[str], Any]]) -> list[Item]:
        found: dict[str, list[Item]] = {}
        for ids, stored in replies:
            for index, id_ in enumerate(ids):
                # To save memory, the list drops its reference to each encoded turn, so the turn is
                # freed once it is decoded.
                kept, stored[index] = stored[index], None
                if kept is None:
                    raise TurnMissing(id_)
                found[id_] = turn_of(id_, kept, self._pipe.cipher)
        return [item for id_, first, stop, _ in turns for item in found[id_][first:stop]]


def _of_conversation(turns: list[TurnSlice]) -> bool:
    """Returns True if a job's turns are ranges of the log of its conversation."""
    return bool(turns) and is_conversation(turns[0].response_id)
