"""What can be done with a response, whoever asks over whatever transport."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import Diverged, UnknownResponse
from jobs.log.codec import decode_event, job_of
from jobs.log.events import begins, prepared, submitted, terminal
from jobs.log.log import read, read_all
from jobs.log.response_state import ResponseState
from jobs.log.view import View
from jobs.names import (
    Partition,
    item_id,
    new_response_id,
    partition_of,
    pick_partition,
    queue_name_of,
)
from jobs.names import response_of as response_of_item
from jobs.record import Job, Status
from jobs.replies import Accepted

from .access.owners import sees
from .api import models
from .api.frames import fingerprint, response_of
from .api.items import check_results, stored
from .api.problem import Problem, invalid
from .api.request import params_of
from .templates import allowed, expanded

if TYPE_CHECKING:
    from jobs.models import Catalog
    from jobs.queue import Queue
    from jobs.redis.pipe import Pipe

    from .access.principal import Principal
    from .api.request import Create
    from .live.submission import SubmissionListener
    from .metrics import Metrics
    from .templates import Templates

Item = dict[str, Any]

CANCEL_TRIES: Final = 5
# References may lead to so many responses; all items of one of them are found at once.
MAX_REFERRED: Final = 32
ON_ORPHAN: Final = {"cancel": True, "go_on": False}
ON_DEATH: Final = {"fail": True, "restart": False}


class Responses:
    """The responses of all owners; every call names who asks, and sees nobody else's.

    `viewer` is that of a `Principal`: an owner, or what sees all owners of a tenant.

    Raises everywhere: Problem, UnknownResponse, RedisTrouble.
    """

    def __init__(
        self,
        pipe: Pipe,
        queue: Queue,
        metrics: Metrics,
        *,
        catalog: Catalog,
        templates: Templates,
        partitions: int,
        unstored_ms: int,
    ) -> None:
        self._pipe = pipe
        self._queue = queue
        self._metrics = metrics
        self._catalog = catalog
        self._templates = templates
        self._partitions = partitions
        self._unstored_ms = unstored_ms

    async def submit(
        self,
        who: Principal,
        create: Create,
        body: dict[str, Any],
        *,
        before: list[dict[str, Any]] | None = None,
        generate: bool = True,
        listener: SubmissionListener | None = None,
    ) -> Accepted:
        """Accepts a request, or finds the response that its idempotency key made before.

        `before` is what was said up to the previous response, where the caller remembers it. With
        `generate` False no model is asked: the response ends at once, to be gone on from.
        `listener` is of a caller who follows what is accepted.
        """
        owner = who.owner  # also where more can be seen: what is gone on from is one's own
        create = expanded(create, allowed(self._templates, who.may_use_prompt))
        params = params_of(create, self._catalog.default)
        models.check(self._catalog, params["model"], who)
        models.check_params(self._catalog, params)
        key = create.idempotency_key
        print_ = "" if key is None else fingerprint(body)
        partition = pick_partition(self._partitions, owner, key)
        id_ = new_response_id(partition)
        items = stored(create.input, lambda prefix, index: item_id(prefix, id_, 0, index))
        if before is None:
            try:
                before = await self._context(owner, create.previous_response_id)
            except Problem:
                # What it went on from may be gone by the time that it is sent again.
                made = key and await self._queue.made(partition, owner, key, print_)
                if not made:
                    raise
                return Accepted(made, 0, fresh=False)
        items = await self._dereferenced(owner, items, before)
        check_results(before, items)
        job = Job(
            id=id_,
            owner=owner,
            created_at=int(time.time()),
            params={**params, "input": items},
            context=before,
        )
        if generate:
            queue_name = queue_name_of(
                params.get("service_tier"), self._catalog.queue_model(params["model"])
            )
            if listener is not None:
                listener.listen(id_, owner, queue_name)
            accepted = await self._queue.submit(
                job,
                submitted(job),
                begins=begins(job),
                idempotency_key=key,
                fingerprint=print_,
                cancel_orphan=_cancels_orphan(create),
                fail_on_worker_death=_fails_on_death(create.metadata or {}),
                queue_name=queue_name,
                price=self._catalog.price(params["model"]),
            )
            if listener is not None:
                listener.accepted(accepted.number)
        else:
            accepted = await self._queue.submit_completed(
                job, prepared(job), idempotency_key=key, fingerprint=print_
            )
        self._metrics.submitted.labels(str(accepted.fresh).lower()).inc()
        return accepted

    async def seen(self, response_id: str) -> None:
        """Takes note that a client has all of a response, which the caller knows to be its own."""
        await self._queue.seen(response_id, self._unstored_ms)

    async def asked(self, viewer: str, response_id: str) -> list[dict[str, Any]]:
        """What was said before the answer of a response, oldest first."""
        job = await self._job(viewer, response_id)
        return [*job.context, *job.params["input"]]

    async def retrieve(self, viewer: str, response_id: str) -> dict[str, Any]:
        """The response object as it stands."""
        return response_of(await self._view(viewer, response_id))

    async def input_items(self, viewer: str, response_id: str) -> list[Item]:
        """The input items of a response, oldest first."""
        job = await self._job(viewer, response_id)
        items: list[Item] = job.params["input"]
        return items

    async def cancel(self, viewer: str, response_id: str) -> None:
        """Ends a response that waits, asks the worker of one that runs; one that ended stays."""
        for _ in range(CANCEL_TRIES):
            view = await self._view(viewer, response_id)
            job = await self._stored(viewer, response_id)
            try:
                await self._queue.cancel(response_id, view.length, _cancelled(job, view))
            except Diverged:
                continue
            return
        raise Problem(503, "busy", "The response changes too quickly. Try again.", retry_after=1)

    async def delete(self, viewer: str, response_id: str) -> None:
        """Deletes a response; one that runs is stopped."""
        await self.owned(viewer, response_id)
        await self._queue.delete(response_id)

    async def owned(self, viewer: str, response_id: str) -> View:
        """A look at a response without its log."""
        return await read(self._pipe, response_id, 0, max_entries=0, viewer=viewer)

    async def _view(self, viewer: str, response_id: str) -> View:
        return await read_all(self._pipe, response_id, viewer=viewer)

    async def _job(self, viewer: str, response_id: str) -> Job:
        # What cannot be seen is found out by the same short look as what is not there.
        await self.owned(viewer, response_id)
        return await self._stored(viewer, response_id)

    async def _stored(self, viewer: str, response_id: str) -> Job:
        """The job of a response that was looked at before."""
        names = Partition(partition_of(response_id))
        data = await self._pipe.call("HGET", names.job(response_id), "job")
        if data is None:
            raise UnknownResponse(response_id)
        job = job_of(response_id, data, self._pipe.cipher)
        if not sees(viewer, job.owner):
            raise UnknownResponse(response_id)
        return job

    async def _dereferenced(self, owner: str, items: list[Item], context: list[Item]) -> list[Item]:
        """The input with the items themselves in the place of references to them."""
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
        """All items of the response that this item is part of."""
        try:
            view, job = await self._turn(owner, response_of_item(id_))
        except UnknownResponse:
            raise _no_such_item(id_) from None
        return [*job.params["input"], *response_of(view)["output"]]

    async def _context(self, owner: str, previous_id: str | None) -> list[Item]:
        """What was said in the turns before, oldest first."""
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
        """A response that others may build on. Raises: UnknownResponse, also where it may not."""
        view = await self._view(owner, response_id)
        job = await self._stored(owner, response_id)
        if job.params.get("store") is False:
            raise UnknownResponse(response_id)
        return view, job


def _fails_on_death(metadata: dict[str, str]) -> bool | None:
    word = metadata.get("holdline_on_worker_death")
    if word is None:
        return None
    if word not in ON_DEATH:
        raise invalid(
            "metadata.holdline_on_worker_death", "'holdline_on_worker_death' is restart or fail."
        )
    return ON_DEATH[word]


def _cancels_orphan(create: Create) -> bool | None:
    """What the request says; nobody has to follow what is in the background."""
    word = (create.metadata or {}).get("holdline_on_orphan")
    if word is not None and word not in ON_ORPHAN:
        raise invalid("metadata.holdline_on_orphan", "'holdline_on_orphan' is go_on or cancel.")
    if create.background:
        return False
    return None if word is None else ON_ORPHAN[word]


def _cancelled(job: Job, view: View) -> list[dict[str, Any]]:
    transcript = ResponseState(decode_event(entry) for entry in view.entries)
    if transcript.end is not None:
        return []
    closing = transcript.close()
    end = terminal(
        job,
        Status.CANCELLED,
        output=transcript.output,
        attempts=view.attempt,
        timing={},
        completed_at=0,
    )
    return [*closing, end]


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
