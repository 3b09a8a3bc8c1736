"""`/v1/ai-sdk`: the route that `useChat` of the AI SDK calls with its `DefaultChatTransport`.

    POST /v1/ai-sdk                answers the last message of a chat
    GET  /v1/ai-sdk/{id}/stream    streams the last answer of a chat again, or continues its stream

Each request contains the whole chat. The other members of its body are parameters of the Responses
API, such as `model`, `instructions` and `tools`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from jobs.chats import Chat
from jobs.ids import RESPONSE_ID
from server.api.problem import Problem, invalid
from server.http.auth_middleware import principal_of
from server.http.shapes import mapping, missing, string, unsupported

from . import ai_sdk_messages
from .ai_sdk_stream import UiMessageStream
from .requests import cursor_of

if TYPE_CHECKING:
    from jobs.chats import Chats
    from server.responses import Responses

    from .requests import FrontEndRequests

Json = dict[str, Any]

PATH: Final = "/v1/ai-sdk"
STREAM: Final = f"{PATH}/{{id}}/stream"
MAX_ID: Final = 255
# The members that the AI SDK and assistant-ui add, which are no parameters of a response.
_OWN: Final = frozenset({"id", "messages", "trigger", "messageId", "system", "tools"})
# assistant-ui sends these members with an empty value unless a page sets them.
_NEUTRAL: Final = frozenset({"callSettings", "config"})
# Parameters of a response that the protocol determines.
_FIXED: Final = frozenset(
    {"input", "stream", "background", "conversation", "previous_response_id", "stream_options"}
)


class AiSdkRoutes:
    """The routes for `useChat`."""

    def __init__(self, requests: FrontEndRequests, responses: Responses, chats: Chats) -> None:
        self._requests = requests
        self._responses = responses
        self._chats = chats

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to the application."""
        app.router.add_post(PATH, self.create)
        app.router.add_get(STREAM, self.resume, allow_head=False)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Accepts the last message of a chat, and streams the answer."""
        with self._requests.listen() as listener:
            asked = await self._requests.accept(request, listener, Translation)
            chat = Chat(asked.response_id, asked.translation.message_id)
            await self._chats.put(principal_of(request).owner, asked.translation.chat_id, chat)
            del asked  # the request would stay in memory as long as the stream
            chunks = UiMessageStream(message_id=chat.message_id)
            return await self._requests.stream(request, chat.response_id, chunks)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Streams the last answer of a chat from its beginning, or after an event.

        The id is that of a chat or of a response. A chat without an answer has no content.
        """
        who, id_ = principal_of(request), request.match_info["id"]
        since = cursor_of(request)
        chat: Chat | None = Chat(id_, None)
        if RESPONSE_ID.fullmatch(id_) is None:
            chat = await self._chats.get(who.owner, id_)
        if chat is None:
            return web.Response(status=204)
        await self._responses.owned(who.viewer, chat.response_id)
        before: list[Json] = []
        if chat.message_id is not None and since.after < 0:
            before = await self._responses.input_items(who.viewer, chat.response_id)
        chunks = UiMessageStream(since, chat.message_id, tuple(_of_last_message(before)))
        return await self._requests.resume(request, chat.response_id, chunks)


class Translation:
    """The body of a request, translated into the body of a response. Raises: Problem."""

    def __init__(self, given: Json) -> None:
        found = ai_sdk_messages.items(given.get("messages"))
        self._places = [place for _, place in found]
        self.chat_id = _id(given, "id")
        self.message_id = ai_sdk_messages.extended(given["messages"], given.get("messageId"))
        if self.message_id is not None and len(self.message_id) > MAX_ID:
            raise invalid("messages", f"The id of a message must have at most {MAX_ID} characters.")
        for name, value in given.items():
            if name in _FIXED or (name in _NEUTRAL and value not in (None, {})):
                raise unsupported(name)
        own = _OWN | _NEUTRAL
        self.body = {name: value for name, value in given.items() if name not in own}
        self.body |= {"input": [item for item, _ in found], "stream": True}
        if given.get("system") is not None:
            self.body["instructions"] = given["system"]
        if given.get("tools") is not None:
            self.body["tools"] = _tools(given["tools"])

    def named(self, problem: Problem) -> Problem:
        """Replaces the name of an input item in a problem by its place in the messages."""
        return ai_sdk_messages.named(problem, self._places)


def _id(given: Json, name: str) -> str:
    if given.get(name) is None:
        raise missing(name)
    id_ = string(given[name], name)
    if not 1 <= len(id_) <= MAX_ID:
        raise invalid(name, f"'{name}' must have 1 to {MAX_ID} characters.")
    return id_


def _tools(tools: Any) -> Any:
    """Returns the tools of a response. assistant-ui sends an object with a member for each tool."""
    if not isinstance(tools, dict):
        return tools
    return [
        {
            "type": "function",
            "name": name,
            "description": mapping(tool, f"tools.{name[:64]}").get("description"),
            "parameters": tool.get("parameters"),
        }
        for name, tool in tools.items()
    ]


def _of_last_message(items: list[Json]) -> list[Json]:
    """Returns the items that follow the last message of the user."""
    starts = [
        number + 1
        for number, item in enumerate(items)
        if item["type"] == "message" and item["role"] != "assistant"
    ]
    return items[starts[-1] if starts else 0 :]
