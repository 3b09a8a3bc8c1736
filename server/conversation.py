"""Looks up the earlier turns that a request continues from or refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs.errors import UnknownResponse
from jobs.log.codec import job_of
from jobs.log.log import read_all
from jobs.names import Partition, partition_of
from jobs.names import response_of as response_of_item

from .access.owners import sees
from .api.frames import response_of
from .api.problem import Problem

if TYPE_CHECKING:
    from jobs.log.view import View
    from jobs.record import Job
    from jobs.redis.pipe import Pipe

Item = dict[str, Any]

# References may lead to so many responses; all items of one of them are found at once.
MAX_REFERRED: Final = 32


class Conversations:
    """Reads stored responses and the items in them, as far as the viewer may see them."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def view(self, viewer: str, response_id: str) -> View:
        """Returns a response with its whole log. Raises: UnknownResponse."""
        return await read_all(self._pipe, response_id, viewer=viewer)

    async def job(self, viewer: str, response_id: str) -> Job:
        """Returns the job of a response that was looked at before. Raises: UnknownResponse."""
        names = Partition(partition_of(response_id))
        data = await self._pipe.call("HGET", names.job(response_id), "job")
        if data is None:
            raise UnknownResponse(response_id)
        job = job_of(response_id, data, self._pipe.cipher)
        if not sees(viewer, job.owner):
            raise UnknownResponse(response_id)
        return job

    async def dereferenced(self, owner: str, items: list[Item], context: list[Item]) -> list[Item]:
        """Returns the input with every item reference replaced by the item. Raises: Problem."""
        wanted = [item["id"] for item in items if item["type"] == "item_reference"]
        if not wanted:
            return items
        found = {item["id"]: item for item in context}
        looked = 0
        for id_ in wanted:
            if id_ not in found and looked < MAX_REFERRED:
                looked += 1
                found |= {item["id"]: item for item in await self._items_beside(owner, id_)}
            if id_ not in found:
                raise _no_such_item(id_)
        return [found[i["id"]] if i["type"] == "item_reference" else i for i in items]

    async def _items_beside(self, owner: str, id_: str) -> list[Item]:
        """Returns all items of the response that this item belongs to."""
        try:
            view, job = await self._turn(owner, response_of_item(id_))
        except UnknownResponse:
            raise _no_such_item(id_) from None
        return [*job.params["input"], *response_of(view)["output"]]

    async def context(self, owner: str, previous_id: str | None) -> list[Item]:
        """Returns the items of the previous turns, oldest first. Raises: Problem."""
        if previous_id is None:
            return []
        try:
            view, job = await self._turn(owner, previous_id)
        except UnknownResponse:
            raise _previous_not_found(previous_id) from None
        if not view.status.ended:
            raise Problem(
                409,
                "previous_response_not_ended",
                "The previous response has not ended yet. Wait for its last event.",
                param="previous_response_id",
            )
        return [*job.context, *job.params["input"], *response_of(view)["output"]]

    async def _turn(self, owner: str, response_id: str) -> tuple[View, Job]:
        """Returns a response to continue from. Raises: UnknownResponse, also if it is unstored."""
        view = await self.view(owner, response_id)
        job = await self.job(owner, response_id)
        if job.params.get("store") is False:
            raise UnknownResponse(response_id)
        return view, job


def _no_such_item(id_: str) -> Problem:
    return Problem(
        404,
        "item_not_found",
        f"Item with id '{id_[:64]}' not found. Send the item itself in its place.",
        param="input",
    )


def _previous_not_found(previous_id: str) -> Problem:
    return Problem(
        400,
        "previous_response_not_found",
        f"Previous response with id '{previous_id[:64]}' not found. Send the whole conversation.",
        param="previous_response_id",
    )
