"""`POST /v1/responses/compact`: compacts a conversation, with the queue and the logs of responses.

The result is a response whose output consists of the user messages and a compaction item. The route
presents it as the standard's object `response.compaction`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs.log.events import NO_USAGE
from server.api.conversations import check_names
from server.api.failures import problem_of
from server.api.json_body import parse_json
from server.api.problem import Problem, invalid
from server.api.request import parse_create

from .auth_middleware import principal_of
from .body import read_body, with_key
from .responses import note, post_of

if TYPE_CHECKING:
    from aiohttp import web

    from server.access.principal import Principal
    from server.config import Config
    from server.live.relay import Relay
    from server.live.submission import SubmissionListener
    from server.responses import Post, Responses

    from .responses import ResponseRoutes

ROUTE: Final = "/v1/responses/compact"
# The standard's parameters for this route, and further ones that Codex sends. They have the same
# meaning as for `POST /v1/responses`.
PARAMETERS: Final = (
    "idempotency_key",
    "image",
    "input",
    "instructions",
    "model",
    "parallel_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning",
    "service_tier",
    "text",
    "tools",
)


class CompactRoutes:
    """The route handler, which shares waiting and retry tracking with `ResponseRoutes`."""

    def __init__(
        self, config: Config, relay: Relay, responses: Responses, routes: ResponseRoutes
    ) -> None:
        self._config = config
        self._relay = relay
        self._responses = responses
        self._routes = routes

    def add_to(self, app: web.Application) -> None:
        """Adds the route to the application."""
        app.router.add_post(ROUTE, self.create)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Accepts the items, and returns the compacted conversation when the response has ended."""
        who = principal_of(request)
        with self._relay.listen() as listener:
            id_, post = await self._accept(request, who, listener)
            reply = self._reply(request, who.viewer, id_)
            return await self._routes.tracked(request, who.owner, post, id_, reply)

    async def _accept(
        self, request: web.Request, who: Principal, listener: SubmissionListener
    ) -> tuple[str, Post | None]:
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            body = with_key(request, parse_json(raw))
            check_names(body, *PARAMETERS)
            if body.get("model") is None:
                # The standard requires it here, although `POST /v1/responses` has a default.
                raise invalid("model", "'model' is required.", "missing_required_parameter")
            create = parse_create(body if body.get("input") is not None else {**body, "input": []})
            post = None if create.idempotency_key is not None else post_of(request, raw)
            self._routes.check_open(request, streams=False)
            accepted = await self._responses.submit(
                who, create, {"route": ROUTE, **body}, listener=listener, post=post, compact=True
            )
        note(request, accepted)
        return accepted.response_id, post

    async def _reply(self, request: web.Request, viewer: str, id_: str) -> web.StreamResponse:
        await self._routes.wait(request, viewer, id_)
        return await self._routes.answer(request, viewer, id_, as_compaction)


def as_compaction(found: dict[str, Any]) -> tuple[Problem | None, dict[str, Any]]:
    """Converts a finished response into a `response.compaction`, or returns its failure."""
    if found["status"] == "cancelled":
        return Problem(409, "cancelled", "The response was cancelled.", should_retry=False), {}
    if failed := problem_of(found):
        return failed, {}
    return None, {
        "id": found["id"],
        "object": "response.compaction",
        "created_at": found["created_at"],
        "output": found["output"],
        "usage": found["usage"] or NO_USAGE,
        "holdline": found.get("holdline"),
    }
