"""Accepts the requests of other front ends, and streams the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Protocol, TypeVar

from server.api.json_body import parse_json
from server.api.problem import Problem
from server.api.request import parse_create
from server.http.auth_middleware import principal_of
from server.http.body import read_body, with_key
from server.http.query import LAST_EVENT_ID
from server.http.responses import note

from .cursor import BEGINNING, AnswerCursor
from .framing import ServerSentEvents

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from aiohttp import web

    from jobs.replies import Accepted
    from server.access.principal import Principal
    from server.config import Config
    from server.http.responses import ResponseRoutes
    from server.live.relay import Relay
    from server.live.submission import SubmissionListener
    from server.responses import Responses

    from .answer import AnswerFormat

Json = dict[str, Any]

STARTING_AFTER: Final = "starting_after"


class Translated(Protocol):
    """A request of another protocol, translated into a request of the Responses API."""

    body: Json
    """The body of the request that creates the response."""

    def named(self, problem: Problem) -> Problem:
        """Replaces the name of a response's field in a problem by the protocol's name for it."""


T = TypeVar("T", bound=Translated)


class Asked(NamedTuple, Generic[T]):
    """An accepted request."""

    response_id: str
    translation: T


class FrontEndRequests:
    """The admission and the streams that the routes of all front ends share."""

    def __init__(
        self, config: Config, relay: Relay, responses: Responses, routes: ResponseRoutes
    ) -> None:
        self._config = config
        self._relay = relay
        self._responses = responses
        self._routes = routes

    def listen(self) -> AbstractContextManager[SubmissionListener]:
        """Returns a listener, which receives the first events of an accepted request."""
        return self._relay.listen()

    async def accept(
        self, request: web.Request, listener: SubmissionListener, translate: Callable[[Json], T]
    ) -> Asked[T]:
        """Reads and translates a request, and submits it. Raises: Problem."""
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            translation = translate(parse_json(raw))
            self._routes.check_open(request, streams=True)
            body = with_key(request, translation.body)
            accepted = await self.submit(principal_of(request), translation, body, listener)
        note(request, accepted)
        return Asked(accepted.response_id, translation)

    async def submit(
        self, who: Principal, translation: Translated, body: Json, listener: SubmissionListener
    ) -> Accepted:
        """Submits the body of a translated request.

        Raises: Problem, which names the fields of the other protocol.
        """
        try:
            create = parse_create(body)
            return await self._responses.submit(who, create, body, listener=listener)
        except Problem as problem:
            raise translation.named(problem) from None

    async def stream(
        self, request: web.Request, response_id: str, answer: AnswerFormat
    ) -> web.StreamResponse:
        """Streams the response of an accepted request in another protocol."""
        viewer, format_ = principal_of(request).viewer, ServerSentEvents(answer)
        return await self._routes.stream(request, viewer, response_id, -1, format_)

    async def resume(
        self, request: web.Request, response_id: str, answer: AnswerFormat
    ) -> web.StreamResponse:
        """Continues the stream of a response.

        Raises: Problem if the server cannot open another stream.
        """
        self._routes.check_room()
        return await self.stream(request, response_id, answer)


def cursor_of(request: web.Request) -> AnswerCursor:
    """Returns the cursor in the header `Last-Event-ID` or in the query. Raises: Problem."""
    written = request.query.get(STARTING_AFTER)
    cursor = BEGINNING if written is None else AnswerCursor.parse(written, STARTING_AFTER)
    if written := request.headers.get(LAST_EVENT_ID):
        return AnswerCursor.parse(written, LAST_EVENT_ID)
    return cursor
