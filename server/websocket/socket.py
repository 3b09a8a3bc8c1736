"""One WebSocket: reads messages, carries out the session's actions, and follows responses.

`writer` writes the messages and the events.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSMsgType

from jobs.errors import HoldlineError
from server.access.principal import missing
from server.api.client_messages import (
    AUTH,
    CANCEL,
    CREATE,
    FollowConversation,
    MarkRead,
    UnfollowConversation,
    message_traceparent,
)
from server.api.close_codes import CloseCode
from server.api.encoding import choose
from server.api.frames import ended, queued, websocket_frame
from server.api.problem import Problem
from server.api.refusals import from_error
from server.http.timeouts import TokenBucket, bound_buffers

from .acks import Delivery
from .console import SocketConsole
from .following import Following
from .session import (
    Action,
    Cancel,
    Converse,
    Follow,
    Forget,
    Leave,
    Pong,
    Say,
    Session,
    Steer,
    Submit,
    Watch,
)
from .steering import Steering
from .welcome import MESSAGES_A_SECOND, is_extension, welcome
from .writer import MAX_BUFFERED, SocketWriter

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from server.api.client_messages import ConversationMessage
    from server.api.frames import Frame
    from server.live.follower import Follower

    from .auth import SocketAuth
    from .services import Services
    from .steering import Place

MAX_TASKS: Final = 64
# Pings and pongs count as messages too. If a client sends more messages, the server reads them
# later. Such a client is finally disconnected, because its pongs queue behind its other messages
# and arrive too late.
MESSAGES_AT_ONCE: Final = 1000
# The number of received messages that are handled before other tasks get their turn.
MESSAGES_A_TURN: Final = 10


class Socket(SocketWriter):
    """The WebSocket of one client, from the upgrade to the end. A `Sink` for its followers.

    A server may hold ten thousand sockets, most of them idle, so a socket's parts are created only
    when they are needed.
    """

    __slots__ = (
        "_console",
        "_delivery",
        "_followers",
        "_following",
        "_session",
        "_steering",
        "_successors",
        "_unstored",
        "_wanted",
    )

    def __init__(self, auth: SocketAuth, services: Services, offers: list[str]) -> None:
        """Chooses the encoding from `offers`, the client's subprotocols. Raises: Problem."""
        super().__init__(auth, services, *choose(offers))
        self._session = Session(auth.check, services.byte_limiter)
        self._followers: dict[Follower, str | None] = {}
        self._delivery = Delivery(self, services.responses, services.byte_limiter)
        self._unstored: dict[Follower, dict[str, Any]] = {}
        self._steering: Steering | None = None  # set with the first steer
        self._console: SocketConsole | None = None  # set with the first `holdline:console`
        self._following: Following | None = None  # set with the first `holdline:follow`
        # The running responses of followed conversations that are followed after the submissions.
        self._wanted: list[str] = []
        self._successors: dict[Follower, str] = {}

    async def _serve_client(self, transport: asyncio.Transport) -> None:
        bound_buffers(transport, MAX_BUFFERED)
        self._greet()
        await self._auth.enter(self)
        self._spawn(self._auth.watch())
        await self._receive()

    async def restart(self, retry_after_ms: int) -> None:
        """Closes the socket; the close reason states when the client may connect again."""
        reason = f"the server is restarting; retry_after_ms={retry_after_ms}"
        await self._close(CloseCode.RESTARTING, reason)
        if self._transport is not None:
            self._transport.abort()

    @property
    def owner(self) -> str:
        """The owner whose answers this socket may continue from."""
        return self._auth.who.owner

    # The methods of `Sink`.

    def _delivered_last(self, follower: Follower, frame: Frame) -> None:
        response = frame.event["response"]
        if successor := response.get("holdline", {}).get("successor_id"):
            self._successors[follower] = successor
        if response.get("store") is False:
            self._unstored[follower] = response
        elif response["status"] == "failed":
            previous = response.get("previous_response_id")
            self._delivery.refused(self._followers.get(follower), previous)

    def queued(self, follower: Follower, place: int | None, eta: float | None, reason: str) -> None:
        """Sends the client the response's position in its queue."""
        lane = self._followers.get(follower)
        self.say(queued(follower.response_id, place, eta, reason, lane))

    def ended(self, follower: Follower, problem: Problem | None) -> None:
        """Reports a response's end to the client if needed, and starts the lane's next request."""
        lane = self._followers.pop(follower, None)
        if not self._followers:
            self._followers = {}  # a new dict, because an emptied dict keeps its hash table
        unstored = self._unstored.pop(follower, None)
        if problem is not None:
            self.say(problem.event(stream_id=lane, response_id=follower.response_id))
        elif follower.told_nothing:
            # The client resumed after the last event. Without a message it would wait forever.
            self.say(ended(follower.response_id, follower.last, lane))
            self._delivery.ask(follower.response_id)
        elif unstored is None and self._services.config.shared.only_if_unseen:
            self._delivery.ask(follower.response_id)
        if self._steering is not None:
            place = follower.last, lane
            self._steering.ended(follower.response_id, self._auth.who.owner, place)
        successor = self._successors.pop(follower, None)
        if unstored is not None:
            self._delivery.announce(follower.response_id)
            self._spawn(self._keep(lane, unstored, successor))
        elif problem is None and follower.told_nothing:
            self._spawn(self._lead_on(lane, follower.response_id))
        else:
            self._do(self._session.ended(lane, follower.response_id, successor))

    async def _receive(self) -> None:
        bucket = TokenBucket(MESSAGES_A_SECOND, MESSAGES_AT_ONCE)
        handled = 0
        async for message in self._ws:
            match message.type:
                case self._encoding.kind:
                    await self._received(message.data)
                case WSMsgType.TEXT | WSMsgType.BINARY:
                    self.say(Problem(400, "bad_message", self._encoding.hint).event())
                case WSMsgType.PING:
                    self.write(websocket_frame(bytes(message.data), WSMsgType.PONG))
                case WSMsgType.PONG:
                    for response_id in self._delivery.pong(bytes(message.data)):
                        self._spawn(self._delivery.seen(response_id))
                case _:
                    continue
            await self._wait_for_room()
            handled += 1
            if handled % MESSAGES_A_TURN == 0:
                await asyncio.sleep(0)
            if wait := bucket.take(time.monotonic()):
                await asyncio.sleep(wait)
                if self._transport is None or self._transport.is_closing():
                    return  # drops the remaining messages of a disconnected client

    async def _received(self, data: str | bytes) -> None:
        try:
            async with self._services.large_requests.turn(len(data)) as large:
                tasks = len(self._tasks)
                await self._handle(self._encoding.decode(data))
                if large and (submits := [*self._tasks][tasks:]):
                    await asyncio.wait(submits)
        except Problem as problem:
            self._services.requests.refused("(invalid message)", problem, self._auth.known)
            self.say(problem.event())

    def _greet(self) -> None:
        """Sends the first messages of the extensions."""
        self.say(welcome(self._services.config, self._auth.limits))
        if not self._services.relay.healthy:
            self.tell_health(healthy=False)

    async def _handle(self, body: dict[str, Any]) -> None:
        if not self._extended and is_extension(body):
            self._extended = True
            self._greet()
        if body.get("type") == AUTH:
            await self._auth.authenticate(body)
        elif self._auth.unauthenticated:
            await self._auth.reject(missing())
        else:
            self._do(self._session.received(body))

    async def _wait_for_room(self) -> None:
        """Waits until the socket is writable and has fewer than `MAX_TASKS` tasks.

        A client that sends requests without reading therefore delays its own later messages.
        """
        while not self.writable and self._slow_consumer is not None:
            await self._slow_consumer.over
        while len(self._tasks) >= MAX_TASKS:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Say(message, refused):
                    if refused is not None:
                        self._services.requests.refused(*refused, self._auth.known)
                    self.say(message)
                case Pong(id_):
                    self.say(self._pong(id_))
                case Follow():
                    self._follow(action)
                case Submit():
                    self._spawn(self._submit(action))
                case Cancel():
                    self._spawn(self._cancel(action))
                case Steer(body):
                    self._steer(body)
                case Converse(message):
                    self._converse(message)
                case Leave(response_id):
                    self._leave_response(response_id)
                case Watch(response_id):
                    self._watch_service(response_id)
                case Forget(lane, response_id):
                    self._delivery.refused(lane, response_id)

    def _follow(self, action: Follow) -> None:
        try:
            follower = self._services.relay.follow(
                action.response_id,
                self._auth.who.viewer,
                action.starting_after,
                self,
                shown=action.shown,
                trace=action.trace,
            )
        except HoldlineError as error:
            problem = from_error(error)
            self.say(problem.event(stream_id=action.lane, response_id=action.response_id))
            self._do(self._session.ended(action.lane, action.response_id))
        else:
            follower.lane = self._encoding.lane(action.lane)
            follower.obfuscated = action.obfuscated
            self._followers[follower] = action.lane

    async def _submit(self, action: Submit) -> None:
        lane, previous = action.create.stream_id, action.create.previous_response_id
        parent = message_traceparent(action.create.client_metadata)
        with (
            self._services.requests.record(CREATE, parent, self._auth.who) as record,
            self._services.relay.listen() as listener,
        ):
            try:
                accepted = await self._services.responses.submit(
                    self._auth.who,
                    action.create,
                    action.body,
                    before=await self._delivery.before(previous),
                    generate=action.create.generate is not False,
                    listener=listener,
                )
            except (Problem, HoldlineError) as error:
                record.refused(problem := from_error(error))
                self._delivery.refused(lane, previous)
                self._do(self._session.refused(lane, problem))
            else:
                record.status = 200
                obfuscated = action.create.obfuscated
                self._do(self._session.submitted(lane, accepted.response_id, obfuscated=obfuscated))
        self.follow_running([])

    async def _cancel(self, action: Cancel) -> None:
        with self._services.requests.record(CANCEL, action.trace, self._auth.who) as record:
            try:
                await self._services.responses.cancel(self._auth.who.viewer, action.response_id)
                record.response_id, record.status = action.response_id, 200
            except (Problem, HoldlineError) as error:
                record.refused(problem := from_error(error))
                about = {"stream_id": action.lane, "response_id": action.response_id}
                self.say(problem.event(**about))

    async def _keep(
        self, lane: str | None, response: dict[str, Any], successor: str | None
    ) -> None:
        await self._delivery.keep(lane, response)
        self._do(self._session.ended(lane, response["id"], successor))

    async def _lead_on(self, lane: str | None, response_id: str) -> None:
        """Follows the successor of a response that the client resumed after its last event."""
        successor = None
        with contextlib.suppress(Problem, HoldlineError):
            viewer = self._auth.who.viewer
            successor = await self._services.responses.successor(viewer, response_id)
        self._do(self._session.ended(lane, response_id, successor))

    def _steer(self, body: dict[str, Any]) -> None:
        if self._steering is None:
            services = self._services
            self._steering = Steering(
                self, services.relay, services.responses.steers, services.requests
            )
        self._spawn(self._steering.submit(self._auth.who, body))

    def _watch_service(self, response_id: str | None) -> None:
        if self._console is None:
            consoles, check = self._services.consoles, self._auth.check
            self._console = SocketConsole(self, consoles, self._encoding, check)
        self._console.open(response_id)

    def _converse(self, message: ConversationMessage) -> None:
        if self._following is None:
            services = self._services
            self._following = Following(self, services.conversations, services.feeds)
        match message:
            case FollowConversation():
                self._following.follow(self._auth.who, message)
            case UnfollowConversation():
                self._following.unfollow(message)
            case MarkRead():
                self._following.mark_read(self._auth.who, message)

    def _leave_response(self, response_id: str) -> None:
        for follower, lane in list(self._followers.items()):
            if lane == response_id == follower.response_id:
                follower.leave()
                del self._followers[follower]

    # The methods of `FollowingSocket`.

    def follow_running(self, response_ids: list[str]) -> None:
        """Follows the responses that the socket does not follow yet, if there is room.

        One of them may be the response of a request whose submission has not returned yet, so the
        method waits for the end of all submissions.
        """
        self._wanted += response_ids
        if not self._session.is_submitting:
            wanted, self._wanted = self._wanted, []
            for response_id in wanted:
                self._do(self._session.follow_running(response_id))

    def leave_running(self, response_ids: set[str]) -> None:
        """Stops following the responses that only `follow_running` has begun to follow."""
        self._wanted = [one for one in self._wanted if one not in response_ids]
        for response_id in response_ids:
            self._do(self._session.leave_running(response_id))

    # The methods of `SteeringSocket`.

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Starts a task that ends with the socket."""
        self._spawn(work)

    def place_of(self, response_id: str) -> Place | None:
        """Returns the last number and the lane of a response that the socket follows, or None."""
        for follower, lane in self._followers.items():
            if follower.response_id == response_id:
                return follower.last, lane
        return None

    def _pong(self, id_: str | int | None) -> dict[str, Any]:
        known = {}
        for follower in self._followers:
            known[follower.response_id] = follower.last
            # If the last event was lost, this check finds the loss when the client pings.
            follower.doubt()
        return {"type": "holdline:pong", "id": id_, "responses": known}

    def _catch_up(self) -> None:
        for follower in list(self._followers):
            follower.catch_up_if_behind()
        if self._following is not None:
            self._following.catch_up()

    async def _leave(self) -> None:
        if self._console is not None:
            self._console.leave()
            self._console = None  # breaks a reference cycle, as below
        if self._closing is not None:
            await asyncio.wait([self._closing])
        if self._following is not None:
            self._following.leave()
            self._following = None  # breaks a reference cycle, as below
        for follower in list(self._followers):
            follower.leave()
        self._followers.clear()
        if self._steering is not None:
            self._steering.leave()
            self._steering = None  # breaks a reference cycle: the object refers to this one
        self._session.close()
        self._unstored.clear()
        if self._slow_consumer is not None:
            self._services.slow.leave(self._slow_consumer)
            self._caught_up(stuck=False)
        for task in list(self._tasks):
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._delivery.leave()
        if self._transport is not None and self._transport.get_write_buffer_size():
            self._transport.abort()  # the client will not read the remaining data
