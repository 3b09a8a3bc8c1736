"""The HTTP routes of the Conversations API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs.support import INCLUDES
from server.api.conversation_events import listed
from server.api.conversations import check_names, item_list, items_in, metadata_in, shown
from server.api.frames import encode
from server.api.json_body import parse_json
from server.api.problem import invalid
from server.api.request import parse_create

from .answers import encoded_answer, json_answer
from .auth_middleware import principal_of
from .bodies import Body
from .body import read_body, with_key
from .query import integer
from .responses import DEFAULT_PAGE, LARGEST_PAGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from aiohttp import web

    from server.config import Config
    from server.conversations import ConversationService

    from .responses import ResponseRoutes


MAX_QUERY: Final = 512


class ConversationRoutes:
    """The route handlers, which identify the caller and delegate to `ConversationService`."""

    def __init__(
        self, config: Config, conversations: ConversationService, routes: ResponseRoutes
    ) -> None:
        self._config = config
        self._conversations = conversations
        self._routes = routes

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to the application."""
        one = "/v1/conversations/{id}"
        items, item = f"{one}/items", f"{one}/items/{{item_id}}"
        app.router.add_get("/v1/conversations", self.list_all, allow_head=False)
        app.router.add_post("/v1/conversations", self.create)
        app.router.add_get(one, self.retrieve, allow_head=False)
        app.router.add_post(one, self.update)
        app.router.add_delete(one, self.delete)
        app.router.add_get(items, self.list_items, allow_head=False)
        app.router.add_post(items, self.add_items)
        app.router.add_get(item, self.retrieve_item, allow_head=False)
        app.router.add_delete(item, self.delete_item)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Creates a conversation."""
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            body = with_key(request, parse_json(raw or b"{}"))
            check_names(body, "items", "metadata", "idempotency_key")
            key = _key(body)
            made = await self._conversations.create(
                principal_of(request), items_in(body), metadata_in(body), key
            )
        return json_answer(shown(made))

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        """Returns a page of the end user's conversations, newest change first."""
        order, after, limit = _page_of(request)
        query = request.query.get("query", "")
        if len(query) > MAX_QUERY:
            raise invalid("query", f"'query' must have at most {MAX_QUERY} characters.")
        found, more, last = await self._conversations.own(
            principal_of(request), after=after, order=order, limit=limit, query=query
        )
        page = item_list([listed(one) for one in found], has_more=more)
        return json_answer({**page, "last_id": last})

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """Returns a conversation without its items."""
        viewer = principal_of(request).viewer
        found = await self._conversations.retrieve(viewer, request.match_info["id"])
        return json_answer(shown(found))

    async def update(self, request: web.Request) -> web.StreamResponse:
        """Replaces the metadata of a conversation."""
        owner, id_ = principal_of(request).owner, request.match_info["id"]
        body = parse_json(await read_body(request, self._config.request_seconds))
        check_names(body, "metadata")
        metadata = metadata_in(body, required=True)
        return json_answer(shown(await self._conversations.update(owner, id_, metadata)))

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Deletes a conversation and its items."""
        id_ = request.match_info["id"]
        await self._conversations.delete(principal_of(request).viewer, id_)
        return json_answer({"id": id_, "object": "conversation.deleted", "deleted": True})

    async def add_items(self, request: web.Request) -> web.StreamResponse:
        """Appends items to a conversation, and returns them."""
        _check_include(request)
        raw = await read_body(request, self._config.request_seconds)
        async with self._routes.large_requests.turn(len(raw)):
            body = with_key(request, parse_json(raw))
            check_names(body, "items", "idempotency_key")
            key = _key(body)
            added = await self._conversations.add(
                principal_of(request).owner,
                request.match_info["id"],
                items_in(body, required=True),
                key,
            )
        return json_answer(item_list(added))

    async def list_items(self, request: web.Request) -> web.StreamResponse:
        """Returns a page of the items, newest first unless `order=asc`."""
        _check_include(request)
        viewer, id_ = principal_of(request).viewer, request.match_info["id"]
        order, after, limit = _page_of(request)

        async def make() -> Body:
            items, more = await self._conversations.page(
                viewer, id_, after=after, order=order, limit=limit
            )
            return Body(encode(item_list(items, has_more=more)))

        return await self._large(request, make)

    async def retrieve_item(self, request: web.Request) -> web.StreamResponse:
        """Returns one item of a conversation."""
        _check_include(request)
        viewer, id_ = principal_of(request).viewer, request.match_info["id"]

        async def make() -> Body:
            item = await self._conversations.item(viewer, id_, request.match_info["item_id"])
            return Body(encode(item))

        return await self._large(request, make)

    async def delete_item(self, request: web.Request) -> web.StreamResponse:
        """Deletes one item, and returns its conversation."""
        viewer, id_ = principal_of(request).viewer, request.match_info["id"]
        item_id = request.match_info["item_id"]
        return json_answer(shown(await self._conversations.delete_item(viewer, id_, item_id)))

    async def _large(
        self, request: web.Request, make: Callable[[], Awaitable[Body]]
    ) -> web.StreamResponse:
        """Sends a body that may be large. The items can change, so no other request shares it."""
        key: Hashable = object()
        async with self._routes.bodies.shared(key, make, large=True) as body:
            answer = encoded_answer(body.json)
            await answer.prepare(request)
            await answer.write_eof()
            return answer


def _page_of(request: web.Request) -> tuple[str, str, int]:
    """Returns the order, the cursor and the size of the page that a query asks for."""
    order = request.query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise invalid("order", "'order' must be 'asc' or 'desc'.")
    limit = integer(request, "limit", DEFAULT_PAGE, 1, LARGEST_PAGE)
    return order, request.query.get("after", ""), limit


def _key(body: dict[str, Any]) -> str | None:
    """Returns the idempotency key of a body. Raises: Problem."""
    return parse_create(
        {"input": "", "model": "any", "idempotency_key": body.get("idempotency_key")}
    ).idempotency_key


def _check_include(request: web.Request) -> None:
    """Raises Problem if the query has an `include` value that the standard does not define.

    The standard's values have no effect, because the server always returns whole items.
    """
    for name in ("include", "include[]"):
        for value in request.query.getall(name, []):
            if value not in INCLUDES:
                raise invalid("include", f"'{value[:64]}' is not supported in 'include'.")
