"""`POST /v1/responses/input_tokens`: counts the input tokens of a request without running it.

If an endpoint of the model has the Responses API, a worker asks it for the number. Otherwise, and
if the endpoint does not answer soon, the number is an estimate.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from jobs.errors import HoldlineError
from server.api.conversations import check_names
from server.api.json_body import parse_json
from server.api.problem import Problem, invalid
from server.api.request import parse_create

from .answers import json_answer
from .auth_middleware import principal_of
from .body import read_body

if TYPE_CHECKING:
    from aiohttp import web

    from jobs.record import Job
    from server.access.principal import Principal
    from server.config import Config
    from server.responses import Responses

    from .responses import ResponseRoutes

# The standard's parameters for this route. Except `personality`, they have the same meaning as for
# `POST /v1/responses`.
COUNTED: Final = (
    "conversation",
    "input",
    "instructions",
    "model",
    "parallel_tool_calls",
    "personality",
    "previous_response_id",
    "reasoning",
    "text",
    "tool_choice",
    "tools",
    "truncation",
)
MAX_PERSONALITY: Final = 64
# The server waits this long for the number of an endpoint.
COUNT_SECONDS: Final = 10.0


class InputTokenRoutes:
    """The route, which shares waiting with `ResponseRoutes`."""

    def __init__(self, config: Config, responses: Responses, routes: ResponseRoutes) -> None:
        self._config = config
        self._responses = responses
        self._routes = routes

    def add_to(self, app: web.Application) -> None:
        """Adds the route to the application."""
        app.router.add_post("/v1/responses/input_tokens", self.count)

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Returns the number of input tokens."""
        who = principal_of(request)
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            body = parse_json(raw)
            check_names(body, *COUNTED)
            create = parse_create(_without_personality(body))
            estimate, job = await self._responses.counted(who, create)
        exact = None if job is None else await self._ask(request, who, job)
        return json_answer(
            {
                "object": "response.input_tokens",
                "input_tokens": estimate if exact is None else exact,
                "holdline": {"estimated": exact is None},
            }
        )

    async def _ask(self, request: web.Request, who: Principal, job: Job) -> int | None:
        """Returns the number that an endpoint of the model counts, or None if there is none."""
        try:
            await self._responses.submit_count(who, job)
            async with asyncio.timeout(COUNT_SECONDS):
                await self._routes.wait(request, who.owner, job.id)
            response = await self._responses.retrieve(who.owner, job.id)
        except (TimeoutError, Problem, HoldlineError):
            return None
        finally:
            # If Redis is unavailable, the response expires.
            with contextlib.suppress(Problem, HoldlineError):
                await self._responses.delete(who.owner, job.id)
        counted: int | None = response.get("input_tokens")
        return counted


def _without_personality(body: dict[str, Any]) -> dict[str, Any]:
    """Returns the body without `personality`, and with an empty input if it has none.

    Raises: Problem for an invalid `personality`, which has no effect on the estimate.
    """
    given = body.get("personality", "")
    if not isinstance(given, str) or len(given) > MAX_PERSONALITY:
        message = f"'personality' must be a string of at most {MAX_PERSONALITY} characters."
        raise invalid("personality", message)
    kept = {name: value for name, value in body.items() if name != "personality"}
    return kept if kept.get("input") is not None else {**kept, "input": []}
