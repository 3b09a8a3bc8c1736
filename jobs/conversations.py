"""Stores conversations, which are logs of items. Each change of a conversation is one Lua script.

The order in which Redis runs the scripts is the order of the items, even if several devices write
at once. The index of an entry in the log never changes, so an index is a cursor: a reader that has
the first n entries reads the others from index n on.

A response and its conversation may be in different partitions, so no script changes both:

    hold       before the submission: the response becomes pending in its conversation
    append     after the submission: the server appends the input items
    append     after the end: the worker appends the items that are missing, and the response is no
               longer pending

If a process dies in between, the response is still pending. `settlement.py` then appends the items
that are missing, before the next request reads the conversation, or a few seconds later.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from .errors import (
    ConversationBusy,
    ConversationFull,
    RedisRefused,
    TurnMissing,
    UnknownConversation,
)
from .log.codec import is_item, item_of, kept_items, kept_metadata, metadata_of
from .names import Partition, conversation_names_of
from .record import TurnSlice
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .record import SharedSettings, Status
    from .redis.pipe import Pipe

Item = dict[str, Any]

MAX_PENDING: Final = 64  # maximum number of unfinished responses of one conversation
# The time after which a worker checks a new pending response. Usually its server has appended the
# input items by then.
SETTLE_MS: Final = 3_000
LOOK_AGAIN_MS: Final = 15_000  # the time between two such checks
MAX_UNSETTLED: Final = 100


@dataclass(frozen=True, slots=True)
class Pending:
    """A response whose items have not all been appended to its conversation.

    `age_ms` is the time since the response became pending. `asked` is True if its input items are
    in the log.
    """

    response_id: str
    age_ms: int
    asked: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """A snapshot of a conversation.

    Its log has `length` entries. `bytes` is the size that counts towards the limits. `items` is a
    part of the log: pairs of an index and an item, without deleted items and deletions.
    """

    id: str
    owner: str
    created_at: int
    metadata: dict[str, str]
    bytes: int
    length: int
    pending: list[Pending]
    items: list[tuple[int, Item]] = field(default_factory=list)

    @property
    def slices(self) -> list[TurnSlice]:
        """The ranges of the log that `items` consists of. Deleted items separate the ranges."""
        ranges: list[TurnSlice] = []
        for index, item in self.items:
            if ranges and ranges[-1].stop == index:
                ranges[-1] = ranges[-1]._replace(stop=index + 1, last_item=item["id"])
            else:
                ranges.append(TurnSlice(self.id, index, index + 1, item["id"]))
        return ranges


class ConversationStore:
    """The conversations of all partitions. All methods raise RedisTrouble.

    A `viewer` is an owner, `TENANT/*` for all owners of a tenant, or an empty string for all
    owners. Unless stated otherwise, a method raises UnknownConversation if the conversation does
    not exist, or if the viewer or owner has no access to it.
    """

    def __init__(self, pipe: Pipe, settings: SharedSettings) -> None:
        self._pipe = pipe
        self._settings = settings

    async def create(
        self,
        id_: str,
        owner: str,
        account: str,
        created_at: int,
        metadata: dict[str, str],
        items: list[Item],
    ) -> None:
        """Creates a conversation, unless it exists. `created_at` is in Unix seconds.

        Raises: ConversationFull.
        """
        self._check(
            id_,
            await self._pipe.run(
                calls.create_conversation(
                    **conversation_arguments(id_),
                    owner=owner,
                    account=account,
                    created_at=created_at,
                    metadata=kept_metadata(id_, metadata, self._pipe.cipher),
                    ttl_ms=self._settings.conversation_ms,
                    **self._limits,
                    items=self._pairs(id_, items),
                )
            ),
        )

    async def read(
        self,
        id_: str,
        *,
        viewer: str = "",
        holder: str = "",
        item: str = "",
        first: int = 0,
        stop: int = 0,
    ) -> Conversation:
        """Returns a snapshot with the items in the range `[first, stop)` of the log.

        A `stop` of -1 means the end of the log. If `item` is the id of an item, the snapshot has
        only that item. `holder` is the id of a pending response, which can also read a deleted
        conversation and deleted items. Raises: Undecodable.
        """
        reply = await self._pipe.run(
            calls.read_conversation(
                **conversation_arguments(id_),
                viewer=viewer,
                holder=holder,
                item=item,
                first=first,
                stop=stop,
            )
        )
        if not reply:
            raise UnknownConversation(id_)
        owner, created_at, metadata, size, length, pending, entries = reply
        cipher = self._pipe.cipher
        return Conversation(
            id_,
            owner.decode(),
            created_at,
            metadata_of(id_, metadata, cipher),
            size,
            length,
            _pending(pending),
            [
                (index, item_of(id_, entry, cipher))
                for index, entry in enumerate(entries, first)
                if is_item(entry)
            ],
        )

    async def page(
        self, id_: str, viewer: str, *, after: str, order: str, limit: int
    ) -> tuple[list[Item], bool]:
        """Returns a page of items, and True if more items follow.

        `after` is the id of the item before the page, or an empty string for the first page.
        `order` is "asc" or "desc".

        Raises: LookupError if the conversation never had the item `after`; Undecodable.
        """
        reply = await self._pipe.run(
            calls.list_conversation(
                **conversation_arguments(id_), viewer=viewer, after=after, order=order, limit=limit
            )
        )
        match reply:
            case [b"page", int(more), [*entries]]:
                return [item_of(id_, one, self._pipe.cipher) for one in entries], bool(more)
            case [b"unknown"]:
                raise LookupError(after)
            case _:
                raise UnknownConversation(id_)

    async def update(self, id_: str, owner: str, metadata: dict[str, str]) -> None:
        """Replaces the metadata. Raises: ConversationFull."""
        self._check(
            id_,
            await self._pipe.run(
                calls.update_conversation(
                    **conversation_arguments(id_),
                    owner=owner,
                    metadata=kept_metadata(id_, metadata, self._pipe.cipher),
                    ttl_ms=self._settings.conversation_ms,
                    max_events=self._settings.max_feed_events,
                )
            ),
        )

    async def delete(self, id_: str, viewer: str) -> bool:
        """Deletes a conversation. Returns False if the viewer has no access to it.

        The pending responses of the conversation can still read its items.
        """
        call = calls.delete_conversation(
            **conversation_arguments(id_),
            viewer=viewer,
            hold_ms=self._settings.job_ttl_ms,
            ttl_ms=self._settings.conversation_ms,
        )
        return bool(await self._pipe.run(call))

    async def delete_item(self, id_: str, viewer: str, item: str) -> None:
        """Deletes an item. Raises: LookupError if the conversation never had this item."""
        reply = await self._pipe.run(
            calls.delete_conversation_item(
                **conversation_arguments(id_),
                viewer=viewer,
                item=item,
                ttl_ms=self._settings.conversation_ms,
            )
        )
        if reply == [b"unknown"]:
            raise LookupError(item)
        self._check(id_, reply)

    async def hold(self, id_: str, owner: str, response_id: str, items: list[Item]) -> None:
        """Makes a response pending, before it is submitted with the input `items`.

        Raises: ConversationBusy, ConversationFull.
        """
        settings = self._settings
        reply = await self._pipe.run(
            calls.hold_conversation(
                **conversation_arguments(id_),
                owner=owner,
                response=response_id,
                hold_ms=settings.job_ttl_ms,
                ttl_ms=settings.conversation_ms,
                settle_ms=SETTLE_MS,
                max_pending=MAX_PENDING,
                bytes=sum(map(len, kept_items(id_, items, self._pipe.cipher))),
                count=len(items),
                max_events=settings.max_feed_events,
                **self._limits,
            )
        )
        if reply == [b"busy"]:
            raise ConversationBusy(id_, MAX_PENDING)
        self._check(id_, reply)

    async def add(self, id_: str, items: list[Item]) -> None:
        """Appends items of a client. The caller has checked the owner. Raises: ConversationFull."""
        self._check(id_, await self._append(id_, "", [], items))

    async def append(
        self,
        id_: str,
        response_id: str,
        inputs: Sequence[Item],
        outputs: Sequence[Item] = (),
        *,
        status: Status | None = None,
        previous: str = "",
        model: str = "",
    ) -> None:
        """Appends items of a response, except those that the conversation has or had.

        `status` is the final status of the response if these are all of its items. The response is
        then no longer pending. `previous` is `Job.continues`, and `model` the name of the model
        that answered. If the conversation was deleted, nothing is appended.
        """
        await self._append(id_, response_id, inputs, outputs, status or "", previous, model)

    async def release(self, id_: str, response_id: str) -> None:
        """Makes a response no longer pending, without appending its items."""
        await self._pipe.run(
            calls.release_conversation(**conversation_arguments(id_), response=response_id)
        )

    async def load(self, job_id: str, slices: list[TurnSlice]) -> list[Item]:
        """Returns the items in ranges of conversations. A pending job also gets deleted items.

        Raises: TurnMissing, Undecodable.
        """
        return list(
            chain.from_iterable(await asyncio.gather(*(self._slice(job_id, one) for one in slices)))
        )

    async def claim_unsettled(self, partition: int) -> list[tuple[str, list[Pending]]]:
        """Claims conversations whose pending responses are due for a check.

        Returns the id and the pending responses of each conversation. Another caller gets these
        conversations only after `LOOK_AGAIN_MS`.
        """
        names = Partition(partition)
        reply = await self._pipe.run(
            calls.claim_unsettled(
                unsettled_key=names.unsettled,
                prefix=names.prefix,
                again_ms=LOOK_AGAIN_MS,
                hold_ms=self._settings.job_ttl_ms,
                limit=MAX_UNSETTLED,
            )
        )
        return [(id_.decode(), _pending(pending)) for id_, pending in reply]

    async def _slice(self, job_id: str, part: TurnSlice) -> list[Item]:
        id_, first, stop, last_item = part
        try:
            found = await self.read(id_, holder=job_id, first=first, stop=stop)
        except UnknownConversation:
            raise TurnMissing(id_) from None
        items = [item for _, item in found.items]
        if len(items) < stop - first or last_item not in ("", items[-1]["id"]):
            raise TurnMissing(id_)
        return items

    async def _append(
        self,
        id_: str,
        response_id: str,
        inputs: Sequence[Item],
        outputs: Sequence[Item],
        status: str = "",
        previous: str = "",
        model: str = "",
    ) -> Any:
        return await self._pipe.run(
            calls.append_conversation(
                **conversation_arguments(id_),
                response=response_id,
                status=status,
                previous=previous,
                model=model,
                ttl_ms=self._settings.conversation_ms,
                **self._limits,
                input_count=len(inputs),
                items=self._pairs(id_, [*inputs, *outputs]),
            )
        )

    @property
    def _limits(self) -> dict[str, int]:
        settings = self._settings
        return {
            "max_bytes": settings.max_conversation_bytes,
            "max_items": settings.max_conversation_items,
            "max_account_bytes": settings.subject_conversation_bytes,
        }

    def _pairs(self, id_: str, items: list[Item]) -> list[str | bytes]:
        kept = kept_items(id_, items, self._pipe.cipher)
        return [
            part for item, entry in zip(items, kept, strict=True) for part in (item["id"], entry)
        ]

    def _check(self, id_: str, reply: Any) -> None:
        match reply:
            case [b"ok"] | [b"held"] | [b"created"]:
                return
            case [b"gone"]:
                raise UnknownConversation(id_)
            case [b"full", bytes(what)]:
                name = what.decode()
                limits = {**self._limits, "max_events": self._settings.max_feed_events}
                raise ConversationFull(name, limits[f"max_{name}"])
            case _:
                raise RedisRefused("a script of conversations returned an unexpected reply")


def conversation_arguments(id_: str) -> dict[str, str]:
    """Returns the arguments that most scripts need. Raises: UnknownConversation."""
    names = conversation_names_of(id_)
    return {"conversation_key": names.conversation(id_), "prefix": names.prefix, "id": id_}


def _pending(flat: list[Any]) -> list[Pending]:
    triples = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    return [Pending(id_.decode(), age, bool(asked)) for id_, age, asked in triples]
