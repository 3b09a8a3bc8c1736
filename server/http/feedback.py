"""`/v1/responses/{id}/feedback`: the routes for the feedback of users on responses.

GET     returns the feedback
POST    stores the feedback, in the place of earlier feedback
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobs.feedback_store import FeedbackStore
from server.api.feedback import feedback_in, shown
from server.api.json_body import parse_json

from .answers import json_answer
from .auth_middleware import principal_of
from .body import read_body

if TYPE_CHECKING:
    from aiohttp import web

    from jobs.conversation_feed import FeedStore
    from jobs.redis.pipe import Pipe
    from server.config import Config
    from server.responses import Responses

PATH: Final = "/v1/responses/{id}/feedback"


class FeedbackRoutes:
    """The route handlers. Each caller reaches only the responses that it may see."""

    def __init__(self, config: Config, pipe: Pipe, responses: Responses, feeds: FeedStore) -> None:
        self._config = config
        self._responses = responses
        self._feeds = feeds
        self._store = FeedbackStore(pipe, webhooks=config.shared.webhooks)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to the application."""
        app.router.add_get(PATH, self.get, allow_head=False)
        app.router.add_post(PATH, self.put)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Returns the feedback on a response."""
        id_ = request.match_info["id"]
        await self._responses.owned(principal_of(request).viewer, id_)
        return json_answer(shown(id_, await self._store.get(id_)))

    async def put(self, request: web.Request) -> web.StreamResponse:
        """Stores the feedback on a response, in the place of earlier feedback.

        Then the feed of the response's conversation gets an event. If the server dies before that,
        the client has no answer, and its next attempt appends the event.
        """
        id_ = request.match_info["id"]
        raw = await read_body(request, self._config.request_seconds)
        feedback = feedback_in(parse_json(raw))
        conversation = await self._responses.conversation_of(principal_of(request).viewer, id_)
        changes = await self._store.put(id_, feedback)
        if conversation:
            await self._feeds.note_feedback(conversation, id_, changes)
        return json_answer(shown(id_, feedback))
