"""The operations on conversations, and the context that a conversation gives to a request."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from jobs.conversations import Pending
from jobs.errors import Undecodable
from jobs.ids import item_id, new_conversation_id, new_response_id
from jobs.settlement import settle
from jobs.summary import known_first

from .api.context import Context
from .api.conversations import of_items
from .api.items import stored
from .api.problem import Problem, invalid
from .api.refusals import subject_required, unknown_item
from .large_requests import LargeRequests

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from jobs.conversation_feed import ConversationState, FeedStore
    from jobs.conversations import Conversation, ConversationStore
    from jobs.record import Job
    from jobs.redis.pipe import Pipe

    from .access.principal import Principal
    from .api.items import Item as InputItem

Item = dict[str, Any]

PREVIOUS_PARAM: Final = "holdline.previous_response_id"
TITLE: Final = "title"  # the key of a conversation's title in its metadata
PAGE: Final = 100
# The maximum number of conversations in which one request searches for a title. The titles may be
# encrypted, so Redis cannot search for them.
MAX_SCANNED: Final = 1_000


class ConversationService:
    """Operations on conversations; each call can only reach conversations that its viewer may see.

    Only the owner of a conversation can change it. A caller that sees the conversations of other
    owners can also delete them, and their items. All methods may raise Problem, HoldlineError and
    RedisTrouble.
    """

    def __init__(
        self,
        pipe: Pipe,
        store: ConversationStore,
        *,
        feeds: FeedStore,
        partitions: range,
        digest: Callable[[str], str],
        expand: Callable[[str, list[Item]], Awaitable[list[Item]]],
    ) -> None:
        """`digest` hides a client's address; `expand` replaces item references with the items."""
        self._pipe = pipe
        self._store = store
        self._feeds = feeds
        self._partitions = partitions
        self._digest = digest
        self._expand = expand
        self._large_requests = LargeRequests()

    async def create(
        self, who: Principal, items: list[InputItem], metadata: dict[str, str], key: str | None
    ) -> Conversation:
        """Creates a conversation, or returns the one that `key` has created earlier.

        `key` is the idempotency key of the request.
        """
        account = who.account(self._digest)
        seed = None if key is None else f"{key} {_digest_of(items, metadata)}"
        id_ = new_conversation_id(self._partitions, account, who.owner, seed)
        added = await self._stored(who.owner, items, id_ if seed else None)
        await self._store.create(id_, who.owner, account, int(time.time()), metadata, added)
        return await self._store.read(id_, viewer=who.owner)

    async def retrieve(self, viewer: str, id_: str) -> Conversation:
        """Returns a conversation without its items."""
        return await self._store.read(id_, viewer=viewer)

    async def update(self, owner: str, id_: str, metadata: dict[str, str]) -> Conversation:
        """Replaces the metadata of a conversation."""
        await self._store.update(id_, owner, metadata)
        return await self._store.read(id_, viewer=owner)

    async def delete(self, viewer: str, id_: str) -> None:
        """Deletes a conversation and its items. The responses in it are kept."""
        await self._store.read(id_, viewer=viewer)
        await self._store.delete(id_, viewer)

    async def add(
        self, owner: str, id_: str, items: list[InputItem], key: str | None
    ) -> list[Item]:
        """Appends items, and returns them with their new ids.

        If a request with the idempotency key `key` is repeated with the same items, nothing is
        appended again.
        """
        await self._settled(owner, id_)
        seed = None
        if key is not None:
            seed = new_conversation_id(range(1), "", owner, f"{id_} {key} {_digest_of(items)}")
        added = await self._stored(owner, items, seed)
        await self._store.add(id_, added)
        return added

    async def page(
        self, viewer: str, id_: str, *, after: str, order: str, limit: int
    ) -> tuple[list[Item], bool]:
        """Returns a page of items as `ConversationStore.page`, and True if more items follow."""
        await self._settled(viewer, id_)
        try:
            return await self._store.page(id_, viewer, after=after, order=order, limit=limit)
        except LookupError:
            message = "'after' is not the id of an item of this conversation."
            raise invalid("after", message) from None

    async def item(self, viewer: str, id_: str, item_id: str) -> Item:
        """Returns one item."""
        await self._settled(viewer, id_)
        found = await self._store.read(id_, viewer=viewer, item=item_id)
        if not found.items:
            raise unknown_item(item_id, "item_id")
        return found.items[0][1]

    async def delete_item(self, viewer: str, id_: str, item_id: str) -> Conversation:
        """Deletes one item, and returns its conversation."""
        await self._settled(viewer, id_)
        try:
            await self._store.delete_item(id_, viewer, item_id)
        except LookupError:
            raise unknown_item(item_id, "item_id") from None
        return await self._store.read(id_, viewer=viewer)

    async def context(self, owner: str, id_: str, continues: str = "") -> Context:
        """Returns the items of a conversation, as the context of a new response in it.

        `continues` is `Job.continues`: it selects one branch of the conversation.
        """
        async with self._large_requests.turn(await self._settled(owner, id_)):
            found = await self._store.read(id_, viewer=owner, stop=-1)
            if continues:
                found = await self._branch(found, continues)
        # If a summary cannot be opened, the request is refused later.
        with contextlib.suppress(Undecodable):
            ordered = known_first(found.items, id_, owner, self._pipe.cipher)
            found = replace(found, items=ordered)
        return Context([item for _, item in found.items], found.slices, source="conversation")

    async def _branch(self, found: Conversation, continues: str) -> Conversation:
        """Returns a conversation with only the items of the branch that ends with a response."""
        last = "" if continues == "-" else continues
        if any(one.response_id == last for one in found.pending):
            raise Problem(
                409,
                "previous_response_not_ended",
                "The previous response has not finished yet. Wait for its last event.",
                param=PREVIOUS_PARAM,
            )
        try:
            indexes = (await self._feeds.branches(found.id)).chain(last)
        except LookupError:
            raise Problem(
                400,
                "previous_response_not_found",
                f"The response with id '{last[:64]}' is not a turn of this conversation.",
                param=PREVIOUS_PARAM,
            ) from None
        items = dict(found.items)
        return replace(found, items=[(one, items[one]) for one in indexes if one in items])

    async def own(
        self, who: Principal, *, after: str, order: str, limit: int, query: str
    ) -> tuple[list[ConversationState], bool, str | None]:
        """Returns a page of the caller's conversations, sorted by their last change.

        If `query` is not empty, returns only those whose title contains it. Also returns True if
        more conversations follow, and the id of the last conversation that was looked at.
        """
        if who.subject is None:
            raise subject_required()
        found: list[ConversationState] = []
        scanned, last, more = 0, after, True
        while more and len(found) < limit and scanned < MAX_SCANNED:
            size = PAGE if query else limit
            try:
                page = await self._feeds.page(who.owner, after=last, order=order, limit=size)
            except LookupError:
                message = "'after' is not the id of one of your conversations."
                raise invalid("after", message) from None
            more = page.has_more
            for state in page.conversations:
                scanned, last = scanned + 1, state.id
                if query.casefold() in state.metadata.get(TITLE, "").casefold():
                    found.append(state)
                if len(found) == limit:
                    more = more or state is not page.conversations[-1]
                    break
        return found, more, last or None

    async def settle(self, job: Job, *, deleted: bool = False) -> None:
        """Appends the items of a response that this server has ended or is about to delete."""
        if job.conversation:
            pending = [Pending(job.id, 0, asked=False)]
            await settle(self._pipe, self._store, job.conversation, pending)
            if deleted:
                await self._store.release(job.conversation, job.id)

    async def _settled(self, viewer: str, id_: str) -> int:
        """Appends the items of responses that have ended but whose worker has not done so yet.

        A client that has received the end of a response therefore finds its items. Returns the size
        of the conversation in bytes.
        """
        found = await self._store.read(id_, viewer=viewer)
        if found.pending:
            await settle(self._pipe, self._store, id_, found.pending)
        return found.bytes

    async def _stored(self, owner: str, items: list[InputItem], seed: str | None) -> list[Item]:
        """Returns items with new ids. With a `seed`, the ids are the same each time."""
        digits = secrets.token_hex(16) if seed is None else seed[-32:]
        of = f"{new_response_id(0)[:-32]}{digits}"
        added = stored(items, lambda prefix, index: item_id(prefix, of, 0, index))
        try:
            return await self._expand(owner, added)
        except Problem as problem:
            raise of_items(problem) from None


def _digest_of(*parts: Any) -> str:
    """Returns a digest of a request's content, from which the ids of its items are derived.

    Requests with the same idempotency key and other content therefore get other ids.
    """
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()
