"""Finds the routes of a server that open a WebSocket."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from server.app import SERVER


def websocket_routes(app: web.Application) -> set[str]:
    """Returns the paths of the routes that upgrade a request to a WebSocket."""
    return {
        route.resource.canonical
        for route in app.router.routes()
        if route.resource is not None
        and isinstance(route.handler, partial)
        and route.handler.func == app[SERVER].upgrader.serve
    }
