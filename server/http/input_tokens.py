"""`POST /v1/responses/input_tokens`: estimates the input tokens of a request without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from server.api.conversations import check_names
from server.api.json_body import parse_json
from server.api.problem import invalid
from server.api.request import parse_create

from .answers import json_answer
from .auth_middleware import principal_of
from .body import read_body

if TYPE_CHECKING:
    from aiohttp import web

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


class InputTokenRoutes:
    """The route handler, whose estimate is the same as for the budgets of tenants."""

    def __init__(self, config: Config, responses: Responses, routes: ResponseRoutes) -> None:
        self._config = config
        self._responses = responses
        self._routes = routes

    def add_to(self, app: web.Application) -> None:
        """Adds the route to the application."""
        app.router.add_post("/v1/responses/input_tokens", self.count)

    async def count(self, request: web.Request) -> web.StreamResponse:
        """Returns the estimated number of input tokens."""
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            body = parse_json(raw)
            check_names(body, *COUNTED)
            create = parse_create(_without_personality(body))
            counted = await self._responses.count(principal_of(request), create)
        return json_answer(
            {
                "object": "response.input_tokens",
                "input_tokens": counted,
                "holdline": {"estimated": True},
            }
        )


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
