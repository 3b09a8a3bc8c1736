"""`/v1/ag-ui`: the route that `HttpAgent` of AG-UI calls.

    POST /v1/ag-ui                answers the last message of a thread
    GET  /v1/ag-ui                opens a WebSocket (`server.websocket.run_socket`), which does both
    GET  /v1/ag-ui/{id}/stream    continues the events of a response after a lost connection

The id of a run is an idempotency key: a repeated run finds its response, and the client gets the
same answer again from its beginning.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from server.api.frames import encode
from server.api.problem import Problem, invalid
from server.api.validation import check_storable
from server.http.auth_middleware import principal_of
from server.http.chat_messages import items
from server.http.shapes import mapping, missing, string, unsupported

from . import ag_ui_messages
from .ag_ui_stream import AgUiEvents
from .cursor import BEGINNING, AnswerCursor
from .requests import cursor_of

if TYPE_CHECKING:
    from aiohttp import web

    from server.responses import Responses

    from .requests import FrontEndRequests

Json = dict[str, Any]

PATH: Final = "/v1/ag-ui"
STREAM: Final = f"{PATH}/{{id}}/stream"
MAX_ID: Final = 255
# A stream keeps the client's messages up to this size, in case that the answer restarts.
MAX_SNAPSHOT_BYTES: Final = 262_144
# The members of a run's input. `state` and the members of `forwardedProps` other than `holdline`
# are for other agents.
_KNOWN: Final = frozenset(
    {
        "threadId",
        "runId",
        "parentRunId",
        "protocolVersion",
        "state",
        "messages",
        "tools",
        "context",
        "forwardedProps",
        "resume",
    }
)
# Parameters of a response that the protocol determines.
_FIXED: Final = frozenset(
    {
        "background",
        "conversation",
        "idempotency_key",
        "input",
        "previous_response_id",
        "stream",
        "stream_options",
        "tools",
    }
)
PARAMETERS: Final = "forwardedProps.holdline"
# The member that distinguishes a resumed run on a WebSocket from the input of a run.
RESPONSE_ID: Final = "responseId"
_RESUME: Final = frozenset({"threadId", "runId", RESPONSE_ID, "startingAfter"})


class AgUiRoutes:
    """The routes for AG-UI."""

    def __init__(self, requests: FrontEndRequests, responses: Responses) -> None:
        self._requests = requests
        self._responses = responses

    def add_to(self, app: web.Application) -> None:
        """Adds the routes to the application."""
        app.router.add_post(PATH, self.create)
        app.router.add_get(STREAM, self.resume, allow_head=False)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Accepts a run, or finds the response of an earlier run with this id, and streams it."""
        with self._requests.listen() as listener:
            asked = await self._requests.accept(request, listener, Run)
            id_, events = asked.response_id, asked.translation.events()
            del asked  # the request would stay in memory as long as the stream
            return await self._requests.stream(request, id_, events)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        """Continues the events of a response after an event that the client has."""
        id_ = request.match_info["id"]
        since = cursor_of(request)
        thread, run = (_id(dict(request.query), name) for name in ("thread_id", "run_id"))
        await self._responses.owned(principal_of(request).viewer, id_)
        events = AgUiEvents(since, thread, run, [], keep=False)
        return await self._requests.resume(request, id_, events)


class Run:
    """The input of a run, translated into the body of a response. Raises: Problem."""

    def __init__(self, given: Json) -> None:
        for name, value in given.items():
            if name not in _KNOWN:
                raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
            if name == "resume" and value:
                raise unsupported(name)
        self._thread, self._run = _id(given, "threadId"), _id(given, "runId")
        asked = ag_ui_messages.asked(given.get("messages"))
        check_storable(given["messages"], "messages")  # a snapshot sends the messages back
        self._again = len(asked) < len(given["messages"])
        self._messages = ag_ui_messages.without_answer(asked, given["messages"])
        chat, self._indices = ag_ui_messages.chat_messages(asked, given.get("context"))
        try:
            found = items(chat)
        except Problem as problem:
            raise _renamed(problem, self._place(problem.param or "messages")) from None
        self._places = [place for _, place in found]
        props = given.get("forwardedProps")
        own = props.get("holdline") if isinstance(props, dict) else None
        parameters = mapping({} if own is None else own, PARAMETERS)
        for name in parameters:
            if name in _FIXED:
                raise unsupported(f"{PARAMETERS}.{name}")
        digest = hashlib.sha256(encode({"thread": self._thread, "run": self._run})).hexdigest()
        self.body: Json = {
            **parameters,
            "input": [item for item, _ in found],
            "stream": True,
            "idempotency_key": f"ag-ui-{digest}",
        }
        if tools := ag_ui_messages.tools(given.get("tools")):
            self.body["tools"] = tools

    def events(self) -> AgUiEvents:
        """Returns the format of the run's events, which keeps the messages if they are small."""
        small = len(encode({"messages": self._messages})) <= MAX_SNAPSHOT_BYTES
        return AgUiEvents(
            BEGINNING, self._thread, self._run, self._messages, keep=small, again=self._again
        )

    def named(self, problem: Problem) -> Problem:
        """Replaces the name of a response's field in a problem by the run's name for it."""
        old = problem.param
        if old is None or old.startswith("tools"):
            return problem
        if old.startswith("input["):
            number, _, rest = old.removeprefix("input[").partition("]")
            return _renamed(problem, self._place(self._places[int(number)]) + rest)
        return _renamed(problem, "messages" if old == "input" else f"{PARAMETERS}.{old}")

    def _place(self, param: str) -> str:
        """Returns the place in the messages of AG-UI for a place in those of the chat body."""
        if not param.startswith("messages["):
            return param
        number, _, rest = param.removeprefix("messages[").partition("]")
        index = self._indices[int(number)]
        return "context" if index < 0 else f"messages[{index}]{rest}"


def _renamed(problem: Problem, new: str) -> Problem:
    old = problem.param
    problem.param, problem.message = new, problem.message.replace(f"'{old}'", f"'{new}'")
    return problem


class RunResume:
    """A message that resumes a run on a WebSocket after an event. Raises: Problem."""

    def __init__(self, given: Json) -> None:
        for name in given:
            if name not in _RESUME:
                raise invalid(name, f"Unknown parameter: '{name[:64]}'.", "unknown_parameter")
        self._thread, self._run = _id(given, "threadId"), _id(given, "runId")
        self.response_id = _id(given, RESPONSE_ID)
        self._since = AnswerCursor.of_message(given.get("startingAfter", -1), "startingAfter")

    def events(self) -> AgUiEvents:
        """Returns the format of the run's events after the one that the client has."""
        return AgUiEvents(self._since, self._thread, self._run, [], keep=False)

    def named(self, problem: Problem) -> Problem:
        """Replaces the name of the response's id in a problem by the message's name for it."""
        return _renamed(problem, RESPONSE_ID) if problem.param == "response_id" else problem


def _id(given: Json, name: str) -> str:
    if given.get(name) is None:
        raise missing(name)
    id_ = string(given[name], name)
    if not 1 <= len(id_) <= MAX_ID:
        raise invalid(name, f"'{name}' must have 1 to {MAX_ID} characters.")
    return id_
