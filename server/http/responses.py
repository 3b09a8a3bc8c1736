"""The HTTP routes of the Responses API, which read the same response logs as the WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobs.errors import RedisTrouble
from jobs.replies import Allowance
from server import models
from server.api.failures import problem_of
from server.api.frames import NOTHING, Shown, encode
from server.api.json_body import parse_json
from server.api.problem import Problem, invalid, restarting
from server.api.request import parse_create
from server.api.validation import MAX_SEQUENCE
from server.responses import Post

from .answers import encoded_answer, error_answer, json_answer
from .auth_middleware import principal_of
from .bodies import Bodies, Body
from .body import read_body, with_key
from .open_streams import Waiter
from .query import flag, integer
from .sse import HELPER_HEADER, Events, ResponseStream

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from jobs.replies import Accepted
    from server.access.principal import Principal
    from server.config import Config
    from server.large_requests import LargeRequests
    from server.live.relay import Relay
    from server.live.submission import SubmissionListener
    from server.metrics import Metrics
    from server.responses import Responses

    from .bodies import Form
    from .open_streams import Streams
    from .sse import ResponseFormat

DEFAULT_PAGE: Final = 20
LARGEST_PAGE: Final = 100
# The header in which an official SDK counts its automatic retries of a request.
RETRY_HEADER: Final = "X-Stainless-Retry-Count"
# The key for the tenant's remaining allowance, set on a request whose prompt was accepted.
ALLOWANCE: Final = web.RequestKey("allowance", Allowance)


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a request that is kept in memory, without its body, until the answer is sent."""

    response_id: str
    post: Post | None
    stream: bool
    follows: bool
    obfuscated: bool = False


class ResponseRoutes:
    """The route handlers, which identify the caller and delegate to `Responses` and followers."""

    def __init__(
        self,
        config: Config,
        relay: Relay,
        responses: Responses,
        streams: Streams,
        large_requests: LargeRequests,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._relay = relay
        self._responses = responses
        self._streams = streams
        self._metrics = metrics
        self.large_requests = large_requests
        self.bodies = Bodies(responses)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes of the Responses API to the application."""
        # `compact` and `input_tokens` are routes of their own, so they are not matched as response
        # ids.
        one = "/v1/responses/{id:(?!(?:compact|input_tokens)$)[^/]+}"
        app.router.add_post("/v1/responses", self.create)
        app.router.add_get(one, self.retrieve, allow_head=False)
        app.router.add_delete(one, self.delete)
        app.router.add_post(f"{one}/cancel", self.cancel)
        app.router.add_get(f"{one}/input_items", self.input_items, allow_head=False)
        app.router.add_get("/v1/models", self.models, allow_head=False)
        app.router.add_get("/v1/models/{id:.+}", self.model, allow_head=False)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Accepts a prompt, and waits for the answer, streams it, or runs it in the background."""
        who = principal_of(request)
        with self._relay.listen() as listener:
            asked = await self._accept(request, who, listener)
            reply = self._reply(request, who.viewer, asked)
            return await self.tracked(request, who.owner, asked.post, asked.response_id, reply)

    async def _accept(
        self, request: web.Request, who: Principal, listener: SubmissionListener
    ) -> Asked:
        raw = await read_body(request, self._config.request_seconds)
        async with self.large_requests.turn(len(raw)):
            body = with_key(request, parse_json(raw))
            create = parse_create(body)
            post = None if create.idempotency_key is not None else post_of(request, raw)
            self.check_open(request, streams=bool(create.stream))
            follows = create.stream or not create.background
            accepted = await self._responses.submit(
                who, create, body, listener=listener if follows else None, post=post
            )
        note(request, accepted)
        return Asked(
            accepted.response_id,
            post,
            stream=bool(create.stream),
            follows=bool(follows),
            obfuscated=create.obfuscated,
        )

    async def _reply(self, request: web.Request, viewer: str, asked: Asked) -> web.StreamResponse:
        if asked.stream:
            helper = request.headers.get(HELPER_HEADER)
            events = Events(obfuscated=asked.obfuscated, helper=helper)
            return await self.stream(request, viewer, asked.response_id, -1, events)
        if asked.follows:
            await self.wait(request, viewer, asked.response_id)
            return await self.answer(request, viewer, asked.response_id, as_response)
        return await self._hand_over(request, viewer, asked.response_id)

    async def tracked(
        self,
        request: web.Request,
        owner: str,
        post: Post | None,
        response_id: str,
        reply: Awaitable[web.StreamResponse],
    ) -> web.StreamResponse:
        """Writes the reply to a POST, and records whether the reply was cut off."""
        if post is None:
            return await reply
        cut = True
        try:
            answer = await reply
            cut = _gone(request)
        except Problem as problem:
            cut = problem.response_id is not None
            raise
        finally:
            # If Redis is unavailable, a retry is treated as a new request.
            with contextlib.suppress(RedisTrouble):
                await self._responses.replied(owner, post, response_id, cut=cut)
        return answer

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """Returns the response in its current state, or streams its events.

        A stream begins after the given sequence number and continues with live events.
        """
        viewer, id_ = principal_of(request).viewer, request.match_info["id"]
        after = integer(request, "starting_after", -1, -1, MAX_SEQUENCE)
        helper = request.headers.get(HELPER_HEADER)
        events = Events(obfuscated=flag(request, "include_obfuscation"), helper=helper)
        if flag(request, "stream"):
            await self._responses.owned(viewer, id_)
            shown = Shown(request.query.get("item_id"), request.query.get("event_type"))
            self.check_room()
            return await self.stream(request, viewer, id_, after, events, shown=shown)
        return await self._hand_over(request, viewer, id_)

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """Cancels a response, and returns the response once it has ended."""
        viewer, id_ = principal_of(request).viewer, request.match_info["id"]
        await self._responses.cancel(viewer, id_)
        await self.wait(request, viewer, id_)
        return await self._hand_over(request, viewer, id_)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Deletes a response and its log."""
        id_ = request.match_info["id"]
        await self._responses.delete(principal_of(request).viewer, id_)
        return json_answer({"id": id_, "object": "response", "deleted": True})

    async def input_items(self, request: web.Request) -> web.StreamResponse:
        """Returns a page of the input items, newest first unless `order=asc`."""
        viewer, id_ = principal_of(request).viewer, request.match_info["id"]
        await self._responses.owned(viewer, id_)
        order, after = request.query.get("order", "desc"), request.query.get("after")
        if order not in ("asc", "desc"):
            raise invalid("order", "'order' must be 'asc' or 'desc'.")
        limit = integer(request, "limit", DEFAULT_PAGE, 1, LARGEST_PAGE)

        async def make() -> Body:
            items = await self._responses.input_items(viewer, id_)
            return Body(encode(_page(items if order == "asc" else items[::-1], after, limit)))

        async with self.bodies.shared((id_, order, after, limit), make, large=True) as body:
            answer = encoded_answer(body.json)
            await answer.prepare(request)
            await answer.write_eof()
            return answer

    async def models(self, request: web.Request) -> web.StreamResponse:
        """Lists the models that the caller may use.

        Without a models file, requests may also name other models, which are passed on unchecked.
        """
        listed = models.listed(self._config.catalog, principal_of(request))
        return json_answer({"object": "list", "data": listed})

    async def model(self, request: web.Request) -> web.StreamResponse:
        """Returns the description of one listed model."""
        catalog, name = self._config.catalog, request.match_info["id"]
        return json_answer(models.found(catalog, name, principal_of(request)))

    def check_open(self, request: web.Request, *, streams: bool) -> None:
        """Refuses a prompt whose answer could not be delivered.

        `streams` is True if the answer is streamed.

        Raises: Problem if the server is stopping, or cannot open another stream; ConnectionError if
        the client has disconnected.
        """
        if _gone(request):
            raise ConnectionResetError
        if self._streams.stopped:
            raise Problem(
                503, "server_restarting", "The server is restarting. Try again.", retry_after=1
            )
        if streams and self._streams.limit.is_set:
            self._streams.limit.check()

    def check_room(self) -> None:
        """Raises Problem if the server cannot open another stream."""
        self._streams.limit.check()

    async def stream(
        self,
        request: web.Request,
        viewer: str,
        response_id: str,
        after: int,
        format_: ResponseFormat,
        *,
        shown: Shown = NOTHING,
    ) -> web.StreamResponse:
        """Streams a response's events as server-sent events until the response has ended."""
        delivered = self._metrics.delivered_to_streams
        stream = ResponseStream(self._config.ping_seconds, format_, response_id, delivered)
        follower = self._relay.follow(response_id, viewer, after, stream, shown=shown)
        try:
            with self._streams.open(stream):
                response = await stream.serve(request, follower)
        finally:
            follower.leave()
        if stream.handed_over and (stream.unstored or self._watched):
            await self._seen(response_id)
        return response

    async def answer(
        self, request: web.Request, viewer: str, response_id: str, form: Form
    ) -> web.StreamResponse:
        """Sends the finished response, converted by `form`, or its failure as an HTTP error."""
        async with self.bodies.response(viewer, response_id, form) as body:
            failed = body.problem
            answer = encoded_answer(body.json) if failed is None else error_answer(failed)
            answer.headers["X-Response-Id"] = response_id
            return await self._write(request, response_id, body, answer)

    async def _hand_over(
        self, request: web.Request, viewer: str, response_id: str
    ) -> web.StreamResponse:
        """Sends the response in its current state."""
        async with self.bodies.response(viewer, response_id, as_response) as body:
            return await self._write(request, response_id, body, encoded_answer(body.json))

    async def _write(
        self, request: web.Request, response_id: str, body: Body, answer: web.Response
    ) -> web.StreamResponse:
        """Writes the answer and, if required, records that the client has seen the response."""
        await answer.prepare(request)
        await answer.write_eof()
        if body.ended and (body.unstored or self._watched):
            await self._seen(response_id)
        return answer

    @property
    def _watched(self) -> bool:
        """True if the server records for all responses whether a client has seen them."""
        return self._config.shared.only_if_unseen

    async def _seen(self, response_id: str) -> None:
        # If Redis is unavailable, the response is kept for the full retention time.
        with contextlib.suppress(RedisTrouble):
            await self._responses.seen(response_id)

    async def wait(self, request: web.Request, viewer: str, response_id: str) -> None:
        """Waits until the response has ended.

        Raises: CancelledError if the client disconnects; Problem if the server restarts, or the
        response cannot be followed.
        """
        waiter = Waiter()
        follower = self._relay.follow(response_id, viewer, -1, waiter)
        try:
            with self._streams.wait(waiter):
                while not waiter.done.is_set():
                    if _gone(request):
                        raise asyncio.CancelledError
                    try:
                        async with asyncio.timeout(1):
                            await waiter.done.wait()
                    except TimeoutError:
                        continue
        finally:
            follower.leave()
        if waiter.restarted:
            raise restarting(response_id)
        if waiter.problem is not None:
            raise waiter.problem


def _page(items: list[dict[str, Any]], after: str | None, limit: int) -> dict[str, Any]:
    """Returns one page of a list of items. Raises: Problem."""
    if after:
        places = [index for index, item in enumerate(items) if item["id"] == after]
        if not places:
            raise invalid("after", "'after' is not the id of an input item of this response.")
        items = items[places[0] + 1 :]
    page = items[:limit]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(page) < len(items),
    }


def as_response(found: dict[str, Any]) -> tuple[Problem | None, dict[str, Any]]:
    """Returns a response unchanged, and its failure as an error if it failed without output.

    Most clients would treat a failed response with status 200 as an empty answer.
    """
    return problem_of(found) if found and not found["output"] else None, found


def post_of(request: web.Request, raw: bytes) -> Post | None:
    """Returns the data by which a retry of this POST is recognized.

    Returns None if the request was not sent by an official SDK.
    """
    count = request.headers.get(RETRY_HEADER)
    if count is None:
        return None
    digest = hashlib.sha256(f"{request.path}\0".encode() + raw).hexdigest()[:32]
    return Post(digest, is_retry=count.strip("0") != "")


def _gone(request: web.Request) -> bool:
    """Returns True if the client has disconnected."""
    return request.transport is None or request.transport.is_closing()


def note(request: web.Request, accepted: Accepted) -> None:
    """Stores the tenant's remaining allowance on the request, for use in the answer's headers."""
    if accepted.allowance is not None:
        request[ALLOWANCE] = accepted.allowance


def allowed(allowance: Allowance | None) -> dict[str, str]:
    """Returns the rate limit headers: the tenant's limits and the remaining allowance."""
    headers = {}
    if allowance and allowance.requests:
        headers["X-RateLimit-Limit-Requests"] = str(allowance.requests)
        headers["X-RateLimit-Remaining-Requests"] = str(allowance.requests_left)
    if allowance and allowance.tokens:
        headers["X-RateLimit-Limit-Tokens"] = str(allowance.tokens)
        headers["X-RateLimit-Remaining-Tokens"] = str(allowance.tokens_left)
    return headers
