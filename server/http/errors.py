"""Turns exceptions into error responses in the standard's format, without internals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from jobs.errors import HoldlineError
from server.api.frames import encode
from server.api.problem import Problem
from server.api.refusals import from_error

from .recording import note_refusal

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from server.metrics import Metrics
    from server.request_log import RequestLog

WS_VERSION: Final = "13"
# Maps an error status to the headers that RFC 9110 requires in such an error response.
OF_STATUS: Final = {
    401: {"WWW-Authenticate": 'Bearer realm="holdline"'},
    415: {"Accept-Encoding": "gzip, deflate"},
    426: {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": WS_VERSION},
}

log = structlog.get_logger()


class ErrorResponder:
    """Replies to failed requests, and counts and records the failures."""

    def __init__(self, metrics: Metrics, requests: RequestLog, max_body_bytes: int) -> None:
        self._metrics = metrics
        self._requests = requests
        self._max_body_bytes = max_body_bytes

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Calls the handler, and returns the error response for each exception that it raises."""
        try:
            response: web.StreamResponse = await handler(request)
        except Problem as problem:
            return self._refusal(request, problem)
        except HoldlineError as error:
            return self._refusal(request, from_error(error))
        except web.HTTPRequestEntityTooLarge:
            most = self._max_body_bytes
            return self._refusal(
                request, Problem(413, "body_too_large", f"The body must have at most {most} bytes.")
            )
        except web.HTTPException as error:
            if error.status < 400:
                raise
            answer = self._refusal(
                request,
                Problem(
                    error.status, _code(error), f"{error.reason}: {request.method} {request.path}."
                ),
            )
            if isinstance(error, web.HTTPMethodNotAllowed):
                answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
            return answer
        except ConnectionError as error:
            # aiohttp keeps the error in the body's stream. The error's traceback refers to the
            # stream and the request, which would form a reference cycle.
            error.__traceback__ = None
            return web.Response(status=400)  # the client has disconnected and reads no response
        except Exception as error:
            # The response must not reveal the traceback, which is only logged.
            log.exception(
                "unhandled error in request handler: request failed",
                path=request.path,
                error=type(error).__name__,
            )
            return self._refusal(
                request,
                Problem(
                    500, "internal_error", "The server encountered an internal error. Try again."
                ),
            )
        return response

    def _refusal(self, request: web.Request, problem: Problem) -> web.Response:
        self._metrics.refused.labels(problem.code).inc()
        note_refusal(self._requests, request, problem)
        return web.Response(
            status=problem.status,
            headers={**problem.headers, **OF_STATUS.get(problem.status, {})},
            body=encode({"error": problem.error}),
            content_type="application/json",
        )


def _code(error: web.HTTPException) -> str:
    return {404: "not_found", 405: "method_not_allowed"}.get(error.status, "http_error")
