"""The HTTP route that streams the feed of a conversation.

The stream has no end of its own. It therefore ends when the client's credential does, and counts as
a socket of the client's tenant.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final, Protocol

from server.api.problem import invalid
from server.api.validation import MAX_SEQUENCE

from .auth_middleware import principal_of
from .feed_stream import FeedStream
from .query import LAST_EVENT_ID, integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from server.config import Config
    from server.conversations import ConversationService
    from server.live.conversation_feed import ConversationFeeds

    from .open_streams import Streams
    from .responses import ResponseRoutes

PATH: Final = "/v1/conversations/{id}/events"
MAX_EVENT_ID: Final = 128
# The SSE `id` of an event: its sequence number, a colon and its event id.
CURSOR_PATTERN: Final = r"(-1|[0-9]{1,15})(?::([!-~]{1,128}))?"
_CURSOR: Final = re.compile(CURSOR_PATTERN)


class StreamAuth(Protocol):
    """The members of `SocketAuth` that a stream uses."""

    async def reserve(self) -> None:
        """Counts the stream for its tenant until `release`. Raises: Problem."""

    async def enter(self, connection: FeedStream) -> None:
        """Stores the stream, which receives messages about the credential."""

    async def watch(self) -> None:
        """Ends the stream when its credential has expired or was revoked."""

    def release(self) -> None:
        """Stops counting the stream."""


class ConversationEventRoutes:
    """The route handler. `auth_of` returns the object that checks the client's credential."""

    def __init__(
        self,
        config: Config,
        conversations: ConversationService,
        feeds: ConversationFeeds,
        streams: Streams,
        routes: ResponseRoutes,
        auth_of: Callable[[web.Request], StreamAuth],
    ) -> None:
        self._config = config
        self._conversations = conversations
        self._feeds = feeds
        self._streams = streams
        self._routes = routes
        self._auth_of = auth_of

    def add_to(self, app: web.Application) -> None:
        """Adds the route to the application."""
        app.router.add_get(PATH, self.follow, allow_head=False)

    async def follow(self, request: web.Request) -> web.StreamResponse:
        """Streams the state of a conversation, its events after a cursor, and later events."""
        who, id_ = principal_of(request), request.match_info["id"]
        after, event_id = _cursor_of(request)
        self._routes.check_open(request, streams=True)
        await self._conversations.retrieve(who.viewer, id_)
        auth = self._auth_of(request)
        await auth.reserve()
        try:
            stream = FeedStream(self._config.ping_seconds, id_, has_cursor=after is not None)
            await auth.enter(stream)
            # Other sockets and streams may have been opened meanwhile.
            self._streams.limit.check()
            follower = self._feeds.follow(
                id_, who.owner, who.viewer, stream, after=after, event_id=event_id
            )
            watching = asyncio.create_task(_watch(auth, stream), name="credential of a stream")
            try:
                with self._streams.open(stream):
                    return await stream.serve(request, follower)
            finally:
                follower.leave()
                watching.cancel()
                await asyncio.wait([watching])
                if not watching.cancelled():
                    watching.result()
        finally:
            auth.release()


async def _watch(auth: StreamAuth, stream: FeedStream) -> None:
    """Ends the stream with its credential, and also if the credential cannot be checked."""
    try:
        await auth.watch()
    except Exception:
        stream.stop()
        raise


def _cursor_of(request: web.Request) -> tuple[int | None, str]:
    """Returns the number and the id of the last event that the client has. Raises: Problem."""
    event_id = request.query.get("event_id", "")
    if len(event_id) > MAX_EVENT_ID:
        raise invalid("event_id", f"'event_id' must have at most {MAX_EVENT_ID} characters.")
    after = integer(request, "starting_after", -1, -1, MAX_SEQUENCE)
    if written := request.headers.get(LAST_EVENT_ID):
        if (found := _CURSOR.fullmatch(written)) is None:
            raise invalid(LAST_EVENT_ID, f"'{LAST_EVENT_ID}' must be the 'id' of an event.")
        return int(found[1]), found[2] or ""
    return (after, event_id) if "starting_after" in request.query else (None, "")
