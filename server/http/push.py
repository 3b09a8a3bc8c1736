"""`/v1/push`: the routes with which the devices of an end user subscribe to pushes.

GET    /v1/push/key                     the public key with which a page subscribes
POST   /v1/push/subscriptions           adds or renews a subscription
GET    /v1/push/subscriptions           lists the caller's subscriptions
DELETE /v1/push/subscriptions/{id}      removes one of them
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from jobs.push_subscriptions import PushSubscriptions
from server.api.json_body import parse_json
from server.api.problem import Problem
from server.api.push import not_configured, shown, subscription_in, ttl_of

from .answers import json_answer
from .auth_middleware import principal_of
from .body import read_body

if TYPE_CHECKING:
    from aiohttp import web

    from jobs.redis.pipe import Pipe
    from server.config import Config


class PushRoutes:
    """The route handlers. Each caller reaches only its own subscriptions."""

    def __init__(self, config: Config, pipe: Pipe) -> None:
        self._config = config
        self._subscriptions = PushSubscriptions(pipe, config.shared.partitions)

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to the application."""
        app.router.add_get("/v1/push/key", self.key, allow_head=False)
        app.router.add_post("/v1/push/subscriptions", self.subscribe)
        app.router.add_get("/v1/push/subscriptions", self.list_all, allow_head=False)
        app.router.add_delete("/v1/push/subscriptions/{id}", self.unsubscribe)

    async def key(self, request: web.Request) -> web.StreamResponse:
        """Returns the public key with which a page subscribes."""
        del request
        keys = self._config.push.server_keys
        if not keys:
            raise not_configured()
        from jobs.vapid import encode

        return json_answer({"object": "holdline.push_key", "key": encode(keys[0])})

    async def subscribe(self, request: web.Request) -> web.StreamResponse:
        """Adds a subscription of the caller, or renews it."""
        owner = _owner(request)
        body = parse_json(await read_body(request, self._config.request_seconds))
        now_ms = round(1000 * time.time())
        found = subscription_in(body, self._config.push, now_ms)
        id_ = await self._subscriptions.put(owner, found, ttl_of(found, now_ms))
        return json_answer(shown(id_, found))

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """Lists the subscriptions of the caller."""
        found = await self._subscriptions.all(_owner(request))
        data: list[dict[str, Any]] = [shown(id_, each) for id_, each in found.items()]
        return json_answer({"object": "list", "data": data, "has_more": False})

    async def unsubscribe(self, request: web.Request) -> web.StreamResponse:
        """Removes a subscription of the caller."""
        id_ = request.match_info["id"]
        if not await self._subscriptions.remove(_owner(request), id_):
            raise Problem(
                404,
                "push_subscription_not_found",
                f"Push subscription with id '{id_[:64]}' not found. It may have expired.",
                param="id",
            )
        return json_answer({"id": id_, "object": "holdline.push_subscription", "deleted": True})


def _owner(request: web.Request) -> str:
    """Returns the caller's owner. Raises: Problem if the caller is not an end user."""
    who = principal_of(request)
    if who.subject is None:
        raise Problem(
            403,
            "push_needs_subject",
            "Only an end user can subscribe to pushes. Use a token with a 'sub'.",
        )
    return who.owner
