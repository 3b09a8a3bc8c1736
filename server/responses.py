"""The operations on responses, shared by HTTP and WebSocket."""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs import cancellation
from jobs.config.models import RESPONSES
from jobs.errors import Diverged, Undecodable, UnknownConversation
from jobs.ids import item_id, new_response_id, pick_partition
from jobs.log.codec import kept_fingerprints
from jobs.log.events import opening_events, prepared
from jobs.log.log import read
from jobs.log.view import View
from jobs.names import partition_of, queue_name_of
from jobs.record import Job
from jobs.replies import Accepted
from jobs.steers import PENDING, input_of
from jobs.summary import COMPACT
from jobs.tokens import COUNT, input_tokens
from runtime import tracing
from runtime.tracing import Kind

from .admission import admitted, cancels_orphan, fails_on_death
from .api.context import Context
from .api.frames import fingerprint
from .api.items import stored
from .api.problem import Problem, invalid
from .api.request import params_of, prewarms
from .api.results import check_results, without_void_results
from .capabilities import check_items
from .conversation import Conversations
from .conversations import ConversationService
from .request_log import note
from .steers import SteerService
from .summaries import allows_foreign
from .summaries import check as check_summaries

if TYPE_CHECKING:
    from jobs.config.models import Catalog
    from jobs.posts import Posts
    from jobs.queue import Queue
    from jobs.redis.pipe import Pipe

    from .access.principal import Principal
    from .api.request import Create
    from .live.submission import SubmissionListener
    from .metrics import Metrics
    from .templates import Templates

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Post:
    """A POST request that its client may retry automatically without an idempotency key."""

    fingerprint: str
    """Identifies its route and body."""
    is_retry: bool


class Responses:
    """Operations on responses; each call can only reach responses that its viewer may see.

    `viewer` is `Principal.viewer`: an owner, or a value that sees all owners of a tenant.

    All methods may raise Problem, UnknownResponse and RedisTrouble.
    """

    def __init__(
        self,
        pipe: Pipe,
        queue: Queue,
        posts: Posts,
        metrics: Metrics,
        *,
        catalog: Catalog,
        templates: Templates,
        partitions: range,
        max_context_bytes: int,
        max_body_bytes: int,
        unstored_ms: int,
    ) -> None:
        self._pipe = pipe
        self._conversations = Conversations(pipe, queue.turns, max_context_bytes)
        self.conversations = ConversationService(
            pipe,
            queue.conversations,
            feeds=queue.feeds,
            partitions=partitions,
            digest=self._digest,
            expand=self._expanded,
        )
        self.steers = SteerService(
            queue, self._conversations, catalog, max_context_bytes, max_body_bytes
        )
        self._queue = queue
        self._posts = posts
        self._metrics = metrics
        self._catalog = catalog
        self._templates = templates
        self._partitions = partitions
        self._max_context_bytes = max_context_bytes
        self._unstored_ms = unstored_ms

    async def submit(
        self,
        who: Principal,
        create: Create,
        body: dict[str, Any],
        *,
        before: Context | None = None,
        generate: bool = True,
        listener: SubmissionListener | None = None,
        post: Post | None = None,
        compact: bool = False,
    ) -> Accepted:
        """Accepts a request, or finds the earlier response with the same idempotency key.

        `before` is the context up to the end of the previous response, if the caller has it in
        memory. If `generate` is False, no model is called: the response ends at once, and later
        requests can continue from it. A caller that follows the accepted response passes a
        `listener`. A caller whose client may retry the request automatically passes `post`, and
        calls `replied` once the reply was sent or cut off. If `compact` is True, the response
        consists of the compacted conversation.
        """
        # A caller can continue only from its own responses, even if it can see more.
        owner, given = who.owner, create.items
        create, params = admitted(
            create, who, self._catalog, self._templates, self._max_context_bytes
        )
        note(model=params["model"])
        generate = compact or (generate and not prewarms(create))
        if compact:
            params[COMPACT] = True
        key = create.idempotency_key
        print_ = "" if key is None else fingerprint(body)
        request = None if post is None else self._posts.request_of(post.fingerprint)
        previous = create.previous_response_id
        steers = await self.steers.before(owner, previous)
        # A request that continues a response with steers belongs to its partition, so that one
        # script submits the request and takes the steers.
        partition = pick_partition(self._partitions, owner, key or request)
        if previous is not None and steers is not None:
            partition = partition_of(previous)
        id_ = new_response_id(partition)
        if post is not None and request is not None and post.is_retry:
            cut = await self._posts.attach(owner, request, id_)
            if cut is not None:
                return _resent(cut)
        takes = generate and steers is not None and steers.successor == PENDING
        items = input_of(steers.steers, id_) if takes and steers is not None else []
        first = len(items)
        items += stored(create.items, lambda prefix, index: item_id(prefix, id_, 0, first + index))
        if before is not None:
            context = before
        else:
            try:
                context = await self._context(owner, create, params)
            except (Problem, UnknownConversation):
                # When a request is repeated, its previous response or its conversation may be gone.
                made = key and await self._queue.made(partition, owner, key, print_)
                if not made:
                    raise
                return _resent(made)
        context, items = await self._conversations.whole(owner, params, context, items)
        items = without_void_results(context.items, items, context.void_calls)
        check_results(context.items, items, given)
        check_items(self._catalog, params["model"], who, context, items, given)
        foreign = allows_foreign(self._catalog, params["model"])
        check_summaries(context, items, given, owner, self._pipe.cipher, foreign=foreign)
        if compact and not (context.items or items):
            raise invalid("input", "'input' must contain at least one item.")
        if generate and not (context.items or items or params.get("instructions")):
            raise invalid("input", "'input' must contain at least one item.")
        job = Job(
            id=id_,
            owner=owner,
            created_at=int(time.time()),
            params={**params, "input": items},
            context=context.items,
            context_bytes=context.bytes,
            turns=context.turns,
        )
        account = who.account(self._digest)
        about = {"gen_ai.conversation.id": job.conversation or None, "holdline.response_id": id_}
        with tracing.span("submit", kind=Kind.PRODUCER, attributes=about) as span:
            if generate:
                queue_name = queue_name_of(
                    params.get("service_tier"), self._catalog.queue_model(params["model"])
                )
                if request is not None:
                    await self._posts.reply(owner, request, id_, "open")
                if listener is not None:
                    listener.listen(id_, owner, queue_name)
                created, queued, begun = opening_events(job)
                accepted = await self._queue.submit(
                    job,
                    [created, queued],
                    begins=begun,
                    idempotency_key=key,
                    fingerprint=print_,
                    cancel_orphan=cancels_orphan(create),
                    fail_on_worker_death=fails_on_death(
                        create, self._catalog.on_worker_death(params["model"])
                    ),
                    queue_name=queue_name,
                    price=self._catalog.price(params["model"]),
                    account=account,
                    steered=previous if takes and previous is not None else "",
                    trace=tracing.context(),
                )
                if listener is not None:
                    listener.accepted(accepted.number)
            else:
                accepted = await self._queue.submit_completed(
                    job,
                    prepared(job),
                    idempotency_key=key,
                    fingerprint=print_,
                    account=account,
                    trace=tracing.context(),
                )
            span.set({"holdline.response_id": accepted.response_id})
            span.link(accepted.trace)  # an idempotent resend leads to an earlier response
        note(response_id=accepted.response_id)
        self._metrics.submitted.labels(str(accepted.fresh).lower()).inc()
        return accepted

    async def counted(self, who: Principal, create: Create) -> tuple[int, Job | None]:
        """Estimates the input tokens of a request, as the budgets of tenants count them.

        The job lets an endpoint of the model count them. It is None if no endpoint can.
        """
        # The request is not answered, so it needs no model. A model that it names is checked.
        default = "" if create.model else self._catalog.default
        params = params_of(create, default or "any")
        if create.model or default:
            create, params = admitted(
                create, who, self._catalog, self._templates, self._max_context_bytes
            )
        id_ = new_response_id(pick_partition(self._partitions, who.owner, None))
        items = stored(create.items, lambda prefix, index: item_id(prefix, id_, 0, index))
        context = await self._context(who.owner, create, params)
        context, items = await self._conversations.whole(who.owner, params, context, items)
        # The job is deleted with its result, and belongs to no conversation.
        own = {**params, "input": items, "store": False, COUNT: True}
        own.pop("conversation", None)
        own.pop("previous_response_id", None)
        job = Job(id_, who.owner, int(time.time()), own, context.items, context.bytes)
        counts = RESPONSES in self._catalog.apis(params["model"])
        return input_tokens(job), job if counts else None

    async def submit_count(self, who: Principal, job: Job) -> None:
        """Submits a job of `counted`."""
        model = job.params["model"]
        created, queued, begun = opening_events(job)
        await self._queue.submit(
            job,
            [created, queued],
            begins=begun,
            cancel_orphan=True,
            fail_on_worker_death=True,
            queue_name=queue_name_of(None, self._catalog.queue_model(model)),
            account=who.account(self._digest),
            trace=tracing.context(),
        )

    async def _context(self, owner: str, create: Create, params: dict[str, Any]) -> Context:
        """Returns the items that precede the input: of a conversation, or of earlier turns."""
        if create.conversation is not None:
            job = Job("", owner, 0, params)
            return await self.conversations.context(owner, job.conversation, job.continues)
        return await self._conversations.context(owner, create.previous_response_id)

    async def _expanded(self, owner: str, items: list[Item]) -> list[Item]:
        """Returns items, with item references replaced by the items. Raises: Problem."""
        _, expanded = await self._conversations.whole(owner, {}, Context(), items)
        return expanded

    async def replied(self, owner: str, post: Post, response_id: str, *, cut: bool) -> None:
        """Records that a POST's reply was sent, or that it was cut off and a retry may follow."""
        request = self._posts.request_of(post.fingerprint)
        await self._posts.reply(owner, request, response_id, "cut" if cut else "")

    def _digest(self, address: str) -> str:
        digest = hashlib.sha256(address.encode()).hexdigest()
        return kept_fingerprints(digest, self._pipe.cipher).partition(",")[0][:32]

    async def seen(self, response_id: str) -> None:
        """Records that a client has received the whole response.

        The caller must have checked that the response belongs to the client.
        """
        await self._queue.seen(response_id, self._unstored_ms)

    async def asked(self, viewer: str, response_id: str) -> list[dict[str, Any]]:
        """Returns the items that precede a response's output (turns and input), oldest first."""
        job = await self._job(viewer, response_id)
        return [*await self._conversations.before(job), *job.params["input"]]

    async def look(self, viewer: str, response_id: str) -> View:
        """Returns the first part of a response's log, or the whole log if it is short."""
        return await read(self._pipe, response_id, 0, min_entries=0, viewer=viewer)

    async def retrieve(self, viewer: str, response_id: str) -> dict[str, Any]:
        """Returns the response object in its current state."""
        _, response = await self._conversations.response(viewer, response_id)
        return response

    async def input_items(self, viewer: str, response_id: str) -> list[Item]:
        """Returns the input items of a response, oldest first."""
        job = await self._job(viewer, response_id)
        items: list[Item] = job.params["input"]
        return items

    async def cancel(self, viewer: str, response_id: str) -> None:
        """Cancels a response.

        A queued response ends at once. The worker of a running response is asked to stop. A
        finished response is left unchanged.
        """
        try:
            await cancellation.cancel(self._pipe, self._queue, response_id, viewer=viewer)
        except Diverged:
            message = "The response is changing too quickly to be cancelled. Try again."
            raise Problem(503, "busy", message, retry_after=1) from None

    async def delete(self, viewer: str, response_id: str) -> None:
        """Deletes a response, and stops it if it is running."""
        await self.owned(viewer, response_id)
        # If the job cannot be decoded, its turns expire by TTL.
        with contextlib.suppress(Undecodable):
            job = await self._conversations.job(viewer, response_id)
            await self._queue.turns.release(response_id, job.turns)
            await self.conversations.settle(job, deleted=True)
        await self._queue.delete(response_id)

    async def owned(self, viewer: str, response_id: str) -> View:
        """Returns a view of a response without its log entries."""
        return await self._conversations.head(viewer, response_id)

    async def conversation_of(self, viewer: str, response_id: str) -> str:
        """Returns the id of the conversation of a response, or "" if it belongs to none."""
        return (await self._job(viewer, response_id)).conversation

    async def successor(self, viewer: str, response_id: str) -> str | None:
        """Returns the id of the response that continues a steered response, or None."""
        response = await self.retrieve(viewer, response_id)
        successor: str | None = response.get("holdline", {}).get("successor_id")
        return successor

    async def _job(self, viewer: str, response_id: str) -> Job:
        # One short read rejects missing responses and responses of other owners in the same way.
        await self.owned(viewer, response_id)
        return await self._conversations.job(viewer, response_id)


def _resent(response_id: str) -> Accepted:
    """Returns the result for a request that was sent before, and created this response."""
    note(response_id=response_id)
    return Accepted(response_id, 0, fresh=False)
