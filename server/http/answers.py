"""JSON answers, and refusals as HTTP answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from server.api.frames import encode

if TYPE_CHECKING:
    from server.api.problem import Problem


def json_answer(value: dict[str, Any]) -> web.Response:
    """A JSON answer."""
    return web.Response(body=encode(value), content_type="application/json")


def error_answer(problem: Problem) -> web.Response:
    """The standard's error object, with the headers that belong to it."""
    answer = json_answer({"error": problem.error})
    answer.set_status(problem.status)
    answer.headers.update(problem.headers)
    return answer
