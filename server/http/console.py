"""The HTTP routes of the console: the same state that its page shows, for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from jobs.worker_registry import MAX_PAGE
from server.access.principal import OPERATOR
from server.api.schema.console import Workers
from server.console.state import worker_state

from .answers import encoded_answer
from .auth_middleware import principal_of
from .query import integer

if TYPE_CHECKING:
    from msgspec import Struct

    from server.console.contents import ContentsReader
    from server.console.reader import StateReader

CONSOLE = "/v1/console"
_encode = msgspec.json.Encoder().encode


class ConsoleRoutes:
    """The route handlers. The middleware has checked the scope of the caller."""

    def __init__(self, reader: StateReader, contents: ContentsReader) -> None:
        self._reader = reader
        self._contents = contents

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to the application."""
        get, one = app.router.add_get, f"{CONSOLE}/responses/{{id}}"
        get(CONSOLE, self.state, allow_head=False)
        get(f"{CONSOLE}/workers", self.workers, allow_head=False)
        get(one, self.timeline, allow_head=False)
        get(f"{one}/contents", self.contents, allow_head=False)

    async def state(self, request: web.Request) -> web.StreamResponse:
        """Returns the state of the service."""
        del request
        return _answer(await self._reader.read())

    async def workers(self, request: web.Request) -> web.StreamResponse:
        """Returns a page of the live workers."""
        limit = integer(request, "limit", 100, 1, MAX_PAGE)
        page = await self._reader.page(request.query.get("after", ""), limit)
        data = [worker_state(worker) for worker in page.workers]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return _answer(Workers("list", data, first, last, has_more=page.after != ""))

    async def timeline(self, request: web.Request) -> web.StreamResponse:
        """Returns the timeline of a response, without its contents."""
        return _answer(await self._reader.timeline(request.match_info["id"]))

    async def contents(self, request: web.Request) -> web.StreamResponse:
        """Returns the prompt and the answer of a response, and records the view."""
        who = principal_of(request)
        who.check(OPERATOR)
        return _answer(await self._contents.read(who, request.match_info["id"]))


def _answer(value: Struct) -> web.Response:
    answer = encoded_answer(_encode(value))
    answer.headers["Cache-Control"] = "no-store"
    return answer
