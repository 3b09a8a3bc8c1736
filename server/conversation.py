"""Looks up the earlier turns that a request continues from or refers to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import TurnMissing, UnknownResponse
from jobs.ids import response_of as response_of_item
from jobs.log.codec import job_of
from jobs.log.log import read, read_all
from jobs.names import Partition, partition_of
from jobs.record import TurnSlice
from jobs.summary import COMPACT

from .access.owners import sees
from .api.context import (
    MAX_ITEMS,
    Context,
    fitting,
    packed_bytes,
    too_large,
    too_many_items,
    void_calls,
)
from .api.frames import finished, response_of, state_of
from .api.problem import Problem
from .api.refusals import previous_not_found, unknown_item
from .api.results import unknown_results
from .large_requests import LargeRequests
from .summaries import without_replaced

if TYPE_CHECKING:
    from jobs.log.view import View
    from jobs.record import Job
    from jobs.redis.pipe import Pipe
    from jobs.turn_store import TurnStore

Item = dict[str, Any]

# The maximum number of responses in which one request looks up items and void calls. A single
# look-up finds all of a response.
MAX_REFERRED: Final = 32


class Conversations:
    """Reads the stored responses that a viewer may see, and their items."""

    def __init__(self, pipe: Pipe, turns: TurnStore, max_bytes: int) -> None:
        """`max_bytes` is the size limit of a prompt with its context and referenced items."""
        self._pipe = pipe
        self._turns = turns
        self._max_bytes = max_bytes
        self._expansions = LargeRequests()

    async def view(self, viewer: str, response_id: str) -> View:
        """Returns a view of a response with its whole log. Raises: UnknownResponse."""
        return await read_all(self._pipe, response_id, viewer=viewer)

    async def head(self, viewer: str, response_id: str) -> View:
        """Returns a view of a response without its log entries. Raises: UnknownResponse."""
        return await read(self._pipe, response_id, 0, max_entries=0, viewer=viewer)

    async def response(self, viewer: str, response_id: str) -> tuple[View, dict[str, Any]]:
        """Returns a view of the whole log or of its last entry, and the response object.

        The last entry of a finished log holds the whole response, so a long log need not be read.
        Raises: UnknownResponse.
        """
        view = await read(self._pipe, response_id, 0, viewer=viewer)
        if len(view.entries) < view.length:
            if view.status.ended:
                end = await read(self._pipe, response_id, view.length - 1, viewer=viewer)
                if end.entries and (response := finished(end.entries[-1])) is not None:
                    return end, response
            view = await self.view(viewer, response_id)
        return view, response_of(view)

    async def job(self, viewer: str, response_id: str) -> Job:
        """Returns the job of a response that was already viewed. Raises: UnknownResponse."""
        names = Partition(partition_of(response_id))
        data = await self._pipe.call("HGET", names.job(response_id), "job")
        if data is None:
            raise UnknownResponse(response_id)
        job = job_of(response_id, data, self._pipe.cipher)
        if not sees(viewer, job.owner):
            raise UnknownResponse(response_id)
        return job

    async def whole(
        self, owner: str, params: dict[str, Any], context: Context, items: list[Item]
    ) -> tuple[Context, list[Item]]:
        """Returns the context and the input of a job, with item references replaced by the items.

        The size of the job is computed before the job is built. References to items of void
        attempts are left out, and the context's `void_calls` contains the calls of these attempts.
        It also contains the void calls of the previous turns, if the input has their results.
        With `truncation: "auto"`, the oldest turns are left out of a context that is too large.

        Raises: Problem.
        """
        refers = any(item["type"] == "item_reference" for item in items)
        # Even a small request may refer to megabytes of items, so it waits in the queue for large
        # requests.
        async with self._expansions.turn(self._max_bytes if refers else 0):
            return await self._expanded(owner, params, context, items)

    async def _expanded(
        self, owner: str, params: dict[str, Any], context: Context, items: list[Item]
    ) -> tuple[Context, list[Item]]:
        left = self._max_bytes - packed_bytes(params)
        found = {item["id"]: item for item in context.items}
        wanted = {item["id"] for item in items if item["type"] == "item_reference"}
        void: dict[str, str | None] = {}
        sizes: dict[str, int] = {}
        looked = 0
        whole: list[Item] = []
        for item in items:
            if item["type"] == "item_reference":
                id_ = item["id"]
                if id_ not in found and id_ not in void and looked < MAX_REFERRED:
                    looked += 1
                    beside = await self._items_beside(owner, id_)
                    found |= {one["id"]: one for one in beside if one["id"] in wanted}
                    if id_ not in found:
                        void |= await self._void(owner, id_)
                if id_ in void:
                    continue
                if id_ not in found:
                    raise unknown_item(id_, "input")
                if id_ not in sizes:
                    sizes[id_] = packed_bytes(found[id_])
                left -= sizes[id_]
                whole.append(found[id_])
            else:
                left -= packed_bytes(item)
                whole.append(item)
            if left < 0:
                raise too_large("input", self._max_bytes)
        # A client can send the result of a void call later, after other turns.
        unknown = unknown_results(context.items, whole) - context.void_calls
        for id_ in _one_item_of_each_response(context.items) if unknown else ():
            unknown -= set(void.values())
            if not unknown or looked == MAX_REFERRED:
                break
            looked += 1
            void |= await self._void(owner, id_)
        called = context.void_calls.union(filter(None, void.values()))
        context = without_replaced(context, owner, self._pipe.cipher)
        if called:
            context = replace(context, void_calls=called)
        if len(whole) > MAX_ITEMS:
            raise too_many_items("input")
        return fitting(context, whole, left, self._max_bytes, params.get("truncation")), whole

    async def _items_beside(self, owner: str, id_: str) -> list[Item]:
        """Returns all items of the response to which the given item belongs."""
        try:
            _, response, job = await self._turn(owner, response_of_item(id_))
        except UnknownResponse:
            raise unknown_item(id_, "input") from None
        return [*job.params["input"], *response["output"]]

    async def _void(self, owner: str, id_: str) -> dict[str, str | None]:
        """Returns the ids and the call ids of the void attempts beside an item.

        The void attempts are those of the response to which the item belongs.
        """
        try:
            response_id = response_of_item(id_)
            if (await self.head(owner, response_id)).attempt < 2:
                return {}
            return state_of(await self.view(owner, response_id)).void
        except UnknownResponse:
            return {}

    async def context(self, owner: str, previous_id: str | None) -> Context:
        """Returns the items of the previous turns, oldest first. Raises: Problem.

        The previous response is stored as a turn. No job holds a reference to the returned turns
        yet.
        """
        if previous_id is None:
            return Context()
        try:
            view, response, job = await self._turn(owner, previous_id)
            if not view.status.ended:
                raise Problem(
                    409,
                    "previous_response_not_ended",
                    "The previous response has not finished yet. Wait for its last event.",
                    param="previous_response_id",
                )
            # A compacted conversation replaces all items before it.
            if job.params.get(COMPACT):
                await self._turns.keep(previous_id, owner, response["output"])
                kept = [TurnSlice(previous_id, 0, len(response["output"]))]
                return Context(response["output"], kept)
            # If the job's context came from a socket's memory, its items are stored here first.
            own = [*job.context, *job.params["input"], *response["output"]]
            async with self._expansions.turn(job.context_bytes):
                _, before = await asyncio.gather(
                    self._turns.keep(previous_id, owner, own), self._turns.read(job.turns)
                )
        except (UnknownResponse, TurnMissing):
            raise previous_not_found(previous_id) from None
        kept = [*job.turns, TurnSlice(previous_id, 0, len(own))]
        return Context([*before, *own], kept, void_calls=void_calls(response))

    async def before(self, job: Job) -> list[Item]:
        """Returns the items of the turns that precede a job. Raises: TurnMissing."""
        return [*await self._turns.read(job.turns), *job.context]

    async def _turn(self, owner: str, response_id: str) -> tuple[View, dict[str, Any], Job]:
        """Returns a response to continue from. Raises: UnknownResponse if missing or unstored."""
        view, response = await self.response(owner, response_id)
        job = await self.job(owner, response_id)
        if job.params.get("store") is False:
            raise UnknownResponse(response_id)
        return view, response, job


def _one_item_of_each_response(items: list[Item]) -> list[str]:
    """Returns the id of one item of each response, the newest response first."""
    found: dict[str, str] = {}
    for item in reversed(items):
        with contextlib.suppress(UnknownResponse):
            found.setdefault(response_of_item(item["id"]), item["id"])
    return list(found.values())
