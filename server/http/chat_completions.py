"""`POST /v1/chat/completions`: presents responses, with the same queue and logs, as completions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from server.api.json_body import parse_json
from server.api.problem import Problem
from server.api.request import parse_create

from .auth_middleware import principal_of
from .body import read_body, with_key
from .chat_request import Translation
from .chat_response import Chunks, completion, failure
from .responses import Asked, note, post_of

if TYPE_CHECKING:
    from aiohttp import web

    from server.access.principal import Principal
    from server.config import Config
    from server.live.relay import Relay
    from server.live.submission import SubmissionListener
    from server.responses import Responses

    from .responses import ResponseRoutes


class ChatCompletionRoutes:
    """The chat completions route.

    It shares waiting, streaming and retry tracking with `ResponseRoutes`.
    """

    def __init__(
        self, config: Config, relay: Relay, responses: Responses, routes: ResponseRoutes
    ) -> None:
        self._config = config
        self._relay = relay
        self._responses = responses
        self._routes = routes

    def add_to(self, app: web.Application) -> None:
        """Adds the chat completions route to the application."""
        app.router.add_post("/v1/chat/completions", self.create)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Accepts a prompt, and waits for the answer or streams it."""
        who = principal_of(request)
        with self._relay.listen() as listener:
            asked, chunks = await self._accept(request, who, listener)
            id_ = asked.response_id
            if asked.stream:
                reply = self._routes.stream(request, who.viewer, id_, -1, chunks)
            else:
                reply = self._complete(request, who.viewer, id_)
            return await self._routes.tracked(request, who.owner, asked.post, id_, reply)

    async def _accept(
        self, request: web.Request, who: Principal, listener: SubmissionListener
    ) -> tuple[Asked, Chunks]:
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            body = with_key(request, parse_json(raw))
            asked = Translation(body)
            try:
                create = parse_create(asked.body)
                self._routes.check_open(request, streams=bool(create.stream))
                post = None if create.idempotency_key is not None else post_of(request, raw)
                accepted = await self._responses.submit(
                    who, create, body, listener=listener, post=post
                )
            except Problem as problem:
                raise asked.named(problem) from None
        note(request, accepted)
        kept = Asked(accepted.response_id, post, stream=bool(create.stream), follows=True)
        return kept, Chunks(usage=asked.usage, obfuscated=asked.obfuscated)

    async def _complete(self, request: web.Request, viewer: str, id_: str) -> web.StreamResponse:
        await self._routes.wait(request, viewer, id_)
        return await self._routes.answer(request, viewer, id_, as_completion)


def as_completion(found: dict[str, Any]) -> tuple[Problem | None, dict[str, Any]]:
    """Converts a finished response into a chat completion, or returns its failure."""
    failed = failure(found)
    return failed, completion(found) if failed is None else {}
