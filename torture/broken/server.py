"""The HTTP server: accepts requests, and sends the events that the workers append."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from torture.broken.events import TERMINAL, Json, conversation_of
from torture.broken.faults import Fault
from torture.broken.feed import Feeds
from torture.broken.prompt import check_items
from torture.broken.store import KeyReusedError, Store, input_items

MAX_BODY_BYTES: Final = 4 << 20
MAX_KEY_CHARACTERS: Final = 255
# With a small buffer in the kernel, a client that does not read makes the server wait.
SOCKET_BUFFER_BYTES: Final = 16 * 1024
ANSWER_SECONDS: Final = 600.0


class RefusedError(Exception):
    """A request that the server refuses; `field` is the name of the wrong field."""

    def __init__(self, status: int, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": field,
                "code": code,
            }
        }


@web.middleware
async def refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers refused requests with the error object of the standard."""
    try:
        return await handler(request)
    except RefusedError as error:
        return web.json_response(error.body, status=error.status)


class Server:
    """The routes. `name` distinguishes the servers of one database."""

    def __init__(self, store: Store, name: str, fault: Fault | None) -> None:
        self._store = store
        self._name = name
        self._fault = fault
        self._feeds = Feeds(store, fault)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[refusals], client_max_size=MAX_BODY_BYTES)
        app.router.add_routes(
            [
                web.get("/healthz", self.health),
                web.post("/v1/responses", self.create),
                web.get("/v1/responses/{id}", self.fetch),
                web.delete("/v1/responses/{id}", self.delete),
                web.post("/v1/responses/{id}/cancel", self.cancel),
                web.get("/v1/responses/{id}/input_items", self.input_items),
                web.post("/v1/conversations", self.create_conversation),
                web.get("/v1/conversations/{id}", self.fetch_conversation),
                web.get("/v1/conversations/{id}/items", self.conversation_items),
                web.post("/v1/conversations/{id}/items", self.add_items),
            ]
        )
        app.on_shutdown.append(self._shut_down)
        return app

    async def _shut_down(self, _: web.Application) -> None:
        await self._feeds.close()

    async def health(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def create(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request)
        self._check(body)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not 0 < len(key) <= MAX_KEY_CHARACTERS:
            raise RefusedError(
                400,
                "invalid_idempotency_key",
                f"Idempotency-Key must have 1 to {MAX_KEY_CHARACTERS} characters.",
                "Idempotency-Key",
            )
        compared = {name: value for name, value in body.items() if name != "stream"}
        fingerprint = hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()
        try:
            response_id = self._store.create(
                body, server=self._name, key=key, fingerprint=fingerprint
            )
        except KeyReusedError:
            raise RefusedError(
                422, "idempotency_key_reused", "This Idempotency-Key belongs to another request."
            ) from None
        if body.get("stream"):
            return await self._stream(request, response_id, -1)
        if not body.get("background"):
            async with asyncio.timeout(ANSWER_SECONDS):
                async for _ in self._feeds.follow(response_id, -1):
                    pass
        return web.json_response(self._response(response_id))

    async def fetch(self, request: web.Request) -> web.StreamResponse:
        response = self._response(request.match_info["id"])
        if request.query.get("stream") != "true":
            return web.json_response(response)
        given = request.query.get("starting_after", "-1")
        try:
            cursor = int(given)
        except ValueError:
            raise RefusedError(
                400, "invalid_value", "starting_after must be an integer.", "starting_after"
            ) from None
        if self._fault is Fault.RESUME_FROM_START:
            cursor = -1
        elif self._fault is Fault.RESUME_SKIPS and cursor >= 0:
            cursor += 1
        elif self._fault is Fault.RESUME_REPEATS:
            cursor = max(cursor - 1, -1)
        return await self._stream(request, response["id"], cursor)

    async def delete(self, request: web.Request) -> web.Response:
        response_id = self._response(request.match_info["id"])["id"]
        self._store.cancel(response_id)
        self._store.delete(response_id)
        return web.json_response({"id": response_id, "object": "response", "deleted": True})

    async def cancel(self, request: web.Request) -> web.Response:
        response = self._response(request.match_info["id"])
        self._store.cancel(response["id"])
        return web.json_response(self._response(response["id"]))

    async def input_items(self, request: web.Request) -> web.Response:
        turn = self._store.turn(self._response(request.match_info["id"])["id"])
        return _page(input_items(turn[0]) if turn else [], request)

    async def create_conversation(self, request: web.Request) -> web.Response:
        body = await self._body(request) if request.can_read_body else {}
        items = self._items(body)
        return web.json_response(self._store.create_conversation(body.get("metadata") or {}, items))

    async def fetch_conversation(self, request: web.Request) -> web.Response:
        return web.json_response(self._conversation(request.match_info["id"]))

    async def conversation_items(self, request: web.Request) -> web.Response:
        conversation = self._conversation(request.match_info["id"])
        return _page(self._store.items(conversation["id"]), request)

    async def add_items(self, request: web.Request) -> web.Response:
        conversation = self._conversation(request.match_info["id"])
        items = self._items(await self._body(request))
        self._store.add_items(conversation["id"], items)
        return _page(self._store.items(conversation["id"])[-len(items) :], request, "asc")

    async def _stream(
        self, request: web.Request, response_id: str, cursor: int
    ) -> web.StreamResponse:
        """Sends the events after the cursor, until the response or the connection ends."""
        if request.transport is not None:
            connection = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        try:
            async for _, data in self._feeds.follow(response_id, cursor):
                event = json.loads(data)
                kind = event["type"]
                if self._fault is Fault.UNNUMBERED:
                    del event["sequence_number"]
                await stream.write(f"event: {kind}\ndata: {json.dumps(event)}\n\n".encode())
                if kind in TERMINAL:
                    break
        except (ConnectionError, asyncio.CancelledError):
            if self._fault is Fault.DIES_WITH_CLIENT and request.method == "POST":
                self._store.cancel(response_id)
            raise
        await stream.write_eof()
        return stream

    async def _body(self, request: web.Request) -> Json:
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise RefusedError(400, "invalid_json", "The body must be a JSON object.")
        return body

    def _items(self, body: Json) -> list[Json]:
        items = body.get("items", [])
        if wrong := check_items(items):
            raise RefusedError(400, "invalid_value", f"items {wrong}.", "items")
        return input_items({"input": items})

    def _check(self, body: Json) -> None:
        if not isinstance(body.get("model"), str):
            raise RefusedError(400, "missing_required_parameter", "model is missing.", "model")
        given = body.get("input")
        if not isinstance(given, str) and (wrong := check_items(given)):
            raise RefusedError(400, "invalid_value", f"input {wrong}.", "input")
        previous = body.get("previous_response_id")
        if previous is not None and self._store.response(str(previous), self._name) is None:
            raise RefusedError(
                400,
                "previous_response_not_found",
                "The previous response does not exist.",
                "previous_response_id",
            )
        if body.get("conversation") is not None:
            named = conversation_of(body)
            if named is None or self._store.conversation(named) is None:
                raise RefusedError(
                    404, "conversation_not_found", "The conversation is unknown.", "conversation"
                )

    def _response(self, response_id: str) -> Json:
        response = self._store.response(response_id, self._name)
        if response is None:
            raise RefusedError(404, "response_not_found", "The response does not exist.")
        return response

    def _conversation(self, conversation_id: str) -> Json:
        conversation = self._store.conversation(conversation_id)
        if conversation is None:
            raise RefusedError(404, "conversation_not_found", "The conversation does not exist.")
        return conversation


def _page(items: list[Json], request: web.Request, order: str = "desc") -> web.Response:
    """Answers with a list of items. The newest is first, as in the standard, or with `order`."""
    if request.query.get("order", order) != "asc":
        items = [*reversed(items)]
    after = request.query.get("after")
    if after is not None:
        ids = [item.get("id") for item in items]
        items = items[ids.index(after) + 1 :] if after in ids else []
    limit = request.query.get("limit", "20")
    count = min(max(int(limit), 1), 100) if limit.isdecimal() else 20
    page = items[:count]
    return web.json_response(
        {
            "object": "list",
            "data": page,
            "first_id": page[0].get("id") if page else None,
            "last_id": page[-1].get("id") if page else None,
            "has_more": len(items) > count,
        }
    )
