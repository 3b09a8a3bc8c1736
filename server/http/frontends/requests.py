"""Accepts the requests of other front ends, and streams the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from server.api.json_body import parse_json
from server.api.problem import Problem
from server.api.request import parse_create
from server.http.auth_middleware import principal_of
from server.http.body import read_body, with_key
from server.http.responses import note

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from aiohttp import web

    from server.config import Config
    from server.http.responses import ResponseRoutes
    from server.http.sse import ResponseFormat
    from server.live.relay import Relay
    from server.live.submission import SubmissionListener
    from server.responses import Responses

Json = dict[str, Any]


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
            given = parse_json(raw)
            translation = translate(given)
            body = with_key(request, translation.body)
            self._routes.check_open(request)
            try:
                accepted = await self._responses.submit(
                    principal_of(request), parse_create(body), body, listener=listener
                )
            except Problem as problem:
                raise translation.named(problem) from None
        note(request, accepted)
        return Asked(accepted.response_id, translation)

    async def stream(
        self, request: web.Request, response_id: str, format_: ResponseFormat
    ) -> web.StreamResponse:
        """Streams a response in another protocol."""
        viewer = principal_of(request).viewer
        return await self._routes.stream(request, viewer, response_id, -1, format_)
