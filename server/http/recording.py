"""The middleware that records the requests to the API in the request log and in traces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from runtime import trace_context, tracing
from server.access.principal import SOCKETS

from .auth_middleware import PRINCIPAL

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from server.api.problem import Problem
    from server.request_log import RequestLog

API: Final = "/v1/"
READS: Final = ("GET", "HEAD")
# The key for the code of the error with which a request was refused.
CODE: Final = web.RequestKey("code", str)


def recorder(requests: RequestLog) -> Any:
    """Returns the middleware. A WebSocket is not recorded as a whole, but each of its messages."""

    async def recorded(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Several headers are invalid, as a request that two proxies have changed.
        shown = request.headers.getall("traceparent", [])
        parent = trace_context.parsed(shown[0]) if len(shown) == 1 else ""
        route = _route_of(request)
        with requests.record(route, parent, is_read=request.method in READS) as record:
            about = {"http.request.method": request.method, "http.route": route.partition(" ")[2]}
            tracing.current().set(about)
            try:
                response = await handler(request)
                record.status = response.status
            finally:
                record.who, record.code = request.get(PRINCIPAL), request.get(CODE)
            return response

    @web.middleware
    def record(request: web.Request, handler: Handler) -> Any:
        # This is not a coroutine, because a coroutine's frame would stay in memory as long as a
        # socket is open.
        is_api = request.path.startswith(API) and request.method != "OPTIONS"
        if not is_api or _opens_socket(request):
            return handler(request)
        return recorded(request, handler)

    return record


def note_refusal(requests: RequestLog, request: web.Request, problem: Problem) -> None:
    """Records why a request was refused. If it would have opened a WebSocket, records it here."""
    request[CODE] = problem.code
    if _opens_socket(request):
        requests.refused(_route_of(request), problem, request.get(PRINCIPAL))


def _opens_socket(request: web.Request) -> bool:
    return request.method == "GET" and request.path in SOCKETS


def _route_of(request: web.Request) -> str:
    """Returns the method and the path template of a request, without any id from its path."""
    resource = request.match_info.route.resource
    return f"{request.method} {'(unknown path)' if resource is None else resource.canonical}"
