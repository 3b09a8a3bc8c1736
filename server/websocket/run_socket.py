"""The WebSocket at `/v1/ag-ui`: one run of AG-UI, with one event in each message.

AG-UI leaves the transport to its users. The client sends the input of the run, which is the body of
a POST request to the same path, and receives its events. An event of the log becomes one or more
events of AG-UI, and the last of these has a member `cursor`. After a lost connection, the client
continues on another socket: it sends the ids of the run and of its response, and the last
`cursor`. A socket serves one run:

opened -- holdline:auth, if needed --> authenticated -- a run --> streaming -- end --> closed, 1000
|                                      |                          |
| no token in time, or invalid         | no run in time           | server restarting
v                                      v                          v
closed, 4408 or 4401                   closed, 4408               closed, 1012

An error is the event RUN_ERROR, and the socket is closed after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSCloseCode, WSMsgType

from jobs.errors import HoldlineError, RedisTrouble
from server.access.principal import CREATE, READ, missing
from server.api.client_messages import AUTH, Ping, parse_message
from server.api.close_codes import CloseCode
from server.api.encoding import JSON, choose
from server.api.frames import TEXT, encode, websocket_frame
from server.api.json_body import parse_json
from server.api.problem import Problem, invalid
from server.api.refusals import from_error
from server.http.answers import PIECE_BYTES
from server.http.frontends.ag_ui import RESPONSE_ID, Run, RunResume
from server.http.frontends.framing import Messages
from server.http.stream_buffer import ResponseBuffer
from server.http.timeouts import TokenBucket, bound_buffers

from .auth import heard
from .connection import SocketConnection
from .socket import MESSAGES_AT_ONCE
from .upgrade import OFFERS
from .welcome import MESSAGES_A_SECOND, is_extension

if TYPE_CHECKING:
    from server.http.frontends.ag_ui_stream import AgUiEvents
    from server.http.frontends.requests import FrontEndRequests
    from server.live.follower import Follower

    from .auth import SocketAuth
    from .services import Services

Json = dict[str, Any]

# The types of the messages, for the request log.
RUN: Final = "ag-ui run"
RESUME: Final = "ag-ui resume"
# The statuses of refusals after which the client should try again, as in `web/event-stream.js`.
TEMPORARY: Final = frozenset({502, 503, 504})


class RunSocket(SocketConnection):
    """The WebSocket of one run, from the upgrade to the end."""

    def __init__(
        self,
        services: Services,
        requests: FrontEndRequests,
        auth: SocketAuth,
        offers: list[str],
    ) -> None:
        """Checks `offers`, the client's subprotocols. Raises: Problem."""
        encoding, name = choose(offers)
        if encoding is not JSON:
            message = f"The events of AG-UI are JSON. Offer {JSON.subprotocol}, or none."
            raise invalid(OFFERS, message, "unknown_subprotocol")
        super().__init__(auth, services, encoding, name)
        self._requests = requests
        self._begun = asyncio.Event()  # set by the message with the run
        self._follower: Follower | None = None
        self._refusal: tuple[int, str] | None = None  # the status and code of the last error

    async def _serve_client(self, transport: asyncio.Transport) -> None:
        bound_buffers(transport, PIECE_BYTES)
        await self._auth.enter(self)
        self._spawn(self._auth.watch())
        self._spawn(self._expect_run())
        await self._receive()

    async def restart(self, retry_after_ms: int) -> None:
        """Closes the socket; the close reason states when the client may connect again."""
        reason = f"the server is restarting; retry_after_ms={retry_after_ms}"
        await self.close(CloseCode.RESTARTING, reason)
        if self._transport is not None:
            self._transport.abort()

    def tell_health(self, *, healthy: bool) -> None:
        """Does nothing: AG-UI has no event for late answers."""

    def say(self, message: Json) -> None:
        """Writes a message that is not part of a log.

        An error becomes the event RUN_ERROR. A message of Holdline's own is dropped if the client
        has not switched on the extensions.
        """
        if message["type"] == "error":
            error, error_status = message["error"], message["status"]
            code = error.get("holdline", {}).get("error_code", error["code"])
            self._metrics.refused.labels(code).inc()
            ends = {"message": error["message"], "code": error["code"], "rawEvent": message}
            message = {"type": "RUN_ERROR", **ends}
            self._refusal = error_status, code
        elif not self._extended:
            return
        self._write(websocket_frame(encode(message), TEXT))

    async def _expect_run(self) -> None:
        seconds = self._services.config.request_seconds
        if not await heard(self._begun, seconds):
            await self.close(CloseCode.SILENT, f"no run within {seconds:g} seconds")

    async def _receive(self) -> None:
        bucket = TokenBucket(MESSAGES_A_SECOND, MESSAGES_AT_ONCE)
        async for message in self._ws:
            match message.type:
                case WSMsgType.TEXT:
                    await self._received(message.data)
                case WSMsgType.BINARY:
                    await self._refuse(Problem(400, "bad_message", "Send JSON in text frames."))
                case WSMsgType.PING:
                    self._write(websocket_frame(bytes(message.data), WSMsgType.PONG))
                case _:
                    continue
            await self._wait_for_room()
            if wait := bucket.take(time.monotonic()):
                await asyncio.sleep(wait)

    async def _received(self, data: str) -> None:
        try:
            async with self._services.large_requests.turn(len(data)):
                body = parse_json(data)
                if is_extension(body):
                    await self._handle_extension(body)
                elif self._auth.unauthenticated:
                    await self._auth.reject(missing())
                else:
                    await self._begin(body)
        except (Problem, HoldlineError) as error:
            await self._refuse(from_error(error))

    async def _handle_extension(self, body: Json) -> None:
        self._extended = True
        if body["type"] == AUTH:
            await self._auth.authenticate(body)
            if self._refusal is not None:
                # No event of a run may follow RUN_ERROR. The client can resume on another socket.
                status, code = self._refusal
                again = status in TEMPORARY
                await self.close(CloseCode.TRY_AGAIN if again else CloseCode.UNAUTHENTICATED, code)
            return
        message = parse_message(body)
        if not isinstance(message, Ping):
            raise invalid("type", "A run accepts only holdline:auth and holdline:ping.")
        self.say({"type": "holdline:pong", "id": message.id})

    async def _begin(self, body: Json) -> None:
        """Accepts a run, or finds the response of an earlier one, and streams it. Raises: Problem.

        The request log records the run, and not how long its events take.
        """
        resumed = RESPONSE_ID in body
        who = self._auth.who
        with (
            self._services.requests.record(RESUME if resumed else RUN, who=who) as record,
            self._services.relay.listen() as listener,
        ):
            try:
                if self._begun.is_set():
                    raise _second_run()
                self._begun.set()
                self._auth.check_scope(READ if resumed else CREATE)
                if resumed:
                    response_id, events = await self._resumed(body)
                else:
                    run = Run(body)
                    accepted = await self._requests.submit(who, run, run.body, listener)
                    response_id, events = accepted.response_id, run.events()
                stream = ResponseBuffer(Messages(events), self._metrics.delivered_to_sockets)
                follower = self._services.relay.follow(response_id, who.viewer, -1, stream)
            except (Problem, HoldlineError) as error:
                record.refused(from_error(error))
                raise
            record.response_id, record.status = response_id, 200
        self._follower = follower
        self._spawn(self._stream(stream, follower))

    async def _resumed(self, body: Json) -> tuple[str, AgUiEvents]:
        resume = RunResume(body)
        try:
            await self._services.responses.owned(self._auth.who.viewer, resume.response_id)
        except (Problem, HoldlineError) as error:
            raise resume.named(from_error(error)) from None
        return resume.response_id, resume.events()

    async def _stream(self, stream: ResponseBuffer, follower: Follower) -> None:
        """Writes the events of the run, and closes the socket after the last one."""
        over = False
        while not over:
            await stream.news.wait()
            over = stream.over
            self._write(b"".join(websocket_frame(part, TEXT) for part in stream.take()))
            await self._wait_for_room()
            follower.catch_up_if_behind()
        if self._closing is None:
            finish = self._finish(stream, follower.response_id)
            self._closing = asyncio.create_task(finish, name="close")

    async def _finish(self, stream: ResponseBuffer, response_id: str) -> None:
        await self._close(WSCloseCode.OK, "the run has ended")
        # If the client has confirmed the close, it has received the events before it.
        received = stream.complete and self._ws.close_code == WSCloseCode.OK
        if received and (stream.unstored or self._services.config.shared.only_if_unseen):
            # If Redis is unavailable, the response is kept for the full retention time.
            with contextlib.suppress(RedisTrouble):
                await self._services.responses.seen(response_id)

    async def _refuse(self, problem: Problem) -> None:
        """Sends an error, and closes the socket."""
        if not self._begun.is_set():
            self._services.requests.refused("(invalid message)", problem, self._auth.known)
        self.say(problem.event())
        again = problem.status in TEMPORARY
        await self.close(CloseCode.TRY_AGAIN if again else WSCloseCode.OK, problem.code)

    async def _wait_for_room(self) -> None:
        """Waits until the buffer has room. A client that stops reading is disconnected."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() > PIECE_BYTES:
            await self._services.slow.watch(transport, self._caught_up).over

    def _caught_up(self, *, stuck: bool) -> None:
        if stuck:
            self._metrics.closed_slow.inc()

    def _write(self, frames: bytes) -> None:
        if self._closing is None and self._transport and not self._transport.is_closing():
            self._transport.write(frames)

    async def _leave(self) -> None:
        if self._follower is not None:
            self._follower.leave()
        for task in self._tasks:
            task.cancel()
        if self._closing is not None:
            await asyncio.wait([self._closing])
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _second_run() -> Problem:
    message = "This socket already has a run. Open another socket for the next run."
    return Problem(409, "run_in_progress", message)
