"""Serves `/openapi.json` and `/asyncapi.json`."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
from aiohttp import web

from .asyncapi import asyncapi
from .openapi import openapi
from .routes import JSON


def add_to(app: web.Application) -> None:
    """Adds the routes of the two documents."""
    app.router.add_get("/openapi.json", _serves(openapi), allow_head=False)
    app.router.add_get("/asyncapi.json", _serves(asyncapi), allow_head=False)


def _serves(document: Any) -> Any:
    @functools.cache
    def written() -> bytes:
        return msgspec.json.encode(document())

    async def serve(request: web.Request) -> web.StreamResponse:
        del request
        headers = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-cache"}
        return web.Response(body=written(), content_type=JSON, headers=headers)

    return serve
