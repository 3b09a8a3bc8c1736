"""The state machine of one socket, which converts messages and events to actions. No I/O.

A lane runs its requests in the order in which they arrive; lanes run in parallel:

    lane      on a create                    when its response has ended
    idle      submit; becomes busy           -
    busy      the request waits in the lane  submit the next one, or become idle

The caller carries out the actions in order, and reports their results by calling `submitted`,
`refused` and `ended`.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgspec

from server.api.client_messages import (
    CREATE,
    MESSAGE_TYPES,
    STEER,
    Auth,
    Console,
    FollowConversation,
    MarkRead,
    Ping,
    ResponseCancel,
    ResponseCreate,
    ResponseSteer,
    Resume,
    UnfollowConversation,
    message_traceparent,
    named_in,
    parse_message,
)
from server.api.frames import NOTHING, Shown
from server.api.problem import Problem, invalid
from server.api.refusals import unknown
from server.api.validation import check_storable

if TYPE_CHECKING:
    from collections.abc import Callable

    from server.api.client_messages import ClientMessage, ConversationMessage

    from .unstored import ByteLimiter

MAX_WAITING: Final = 64
MAX_FOLLOWED: Final = 256
# Stands for the type of a message whose type is unknown.
UNKNOWN: Final = "(unknown type)"

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(dict[str, Any]).decode


@dataclass(frozen=True, slots=True)
class Submit:
    """Action: submit this request, then call `submitted` or `refused` with its lane."""

    create: ResponseCreate
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Follow:
    """Action: follow a response on a lane; call `ended` at its end or if following fails.

    `trace` is the trace context of the client's message, or "".
    """

    response_id: str
    starting_after: int
    lane: str | None
    shown: Shown = NOTHING
    obfuscated: bool = False
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Action: cancel the response with this id. `trace` is as for `Follow`."""

    response_id: str
    lane: str | None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Steer:
    """Action: validate and submit this steer."""

    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watch:
    """Action: push the state of the service, and the timeline of a response, to the client."""

    response_id: str | None


@dataclass(frozen=True, slots=True)
class Converse:
    """Action: carry out this message about a conversation."""

    message: ConversationMessage


@dataclass(frozen=True, slots=True)
class Leave:
    """Action: stop following this response on the lane that has its id as name."""

    response_id: str


@dataclass(frozen=True, slots=True)
class Forget:
    """Action: handle the refusal of a lane's turn that tried to continue from this response."""

    lane: str | None
    response_id: str


@dataclass(frozen=True, slots=True)
class Say:
    """Action: send this message to the client.

    `refused` is the type of the client's message and the problem, if the message was refused.
    """

    message: dict[str, Any]
    refused: tuple[str, Problem] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Pong:
    """Action: send a pong with the last sequence number of every followed response."""

    id: str | int | None


Action = Submit | Follow | Cancel | Steer | Watch | Converse | Leave | Forget | Say | Pong


@dataclass(slots=True)
class _Lane:
    # The number of times that the lane follows each response. The count is two if a request with a
    # repeated idempotency key leads to a response that the lane already follows.
    busy: Counter[str] = field(default_factory=Counter)
    submitting: bool = False
    # True if the client did not ask for the lane: the server follows a response of a conversation.
    is_own: bool = False
    waiting: deque[bytes] = field(default_factory=deque)

    @property
    def idle(self) -> bool:
        return not self.busy and not self.submitting


class Session:
    """The pending requests and followed responses of one socket."""

    __slots__ = ("_byte_limiter", "_check", "_lanes", "_waiting")

    def __init__(self, check: Callable[[type], None], byte_limiter: ByteLimiter) -> None:
        """Initializes a session with a permission check and a byte limit.

        `check` raises Problem for a message type that the client may not send. `byte_limiter`
        limits the bytes of requests that wait in lanes. These requests are kept encoded, because
        decoded requests take ten times the memory.
        """
        self._check = check
        self._byte_limiter = byte_limiter
        self._lanes: dict[str | None, _Lane] = {}
        self._waiting = 0

    @property
    def followed(self) -> int:
        """The number of responses that the socket follows."""
        return sum(len(lane.busy) for lane in self._lanes.values())

    @property
    def _open(self) -> int:
        """The number of responses that the socket follows or is about to follow."""
        return self.followed + sum(lane.submitting for lane in self._lanes.values())

    def received(self, body: dict[str, Any]) -> list[Action]:
        """Returns the actions for a message from the client.

        An invalid message is answered with an error event, and the socket stays open. The error
        repeats the lane, the response and the conversation that the message names. As in the
        standard, it repeats only a valid lane, and a refused turn makes its lane forget the
        previous response.
        """
        try:
            if body.get("type") == STEER:
                self._check(ResponseSteer)
                return [Steer(body)]
            message = parse_message(body)
            self._check(type(message))
            return self._act(message, body)
        except Problem as problem:
            kind, previous = body.get("type"), body.get("previous_response_id")
            named = named_in(body)
            known = kind if isinstance(kind, str) and kind in MESSAGE_TYPES else UNKNOWN
            said: list[Action] = [Say(problem.event(**named), (known, problem))]
            lane = named.get("stream_id")
            is_on_lane = lane == body.get("stream_id")
            if kind == CREATE and is_on_lane and isinstance(previous, str):
                said.append(Forget(lane, previous))
            return said

    def submitted(
        self, lane: str | None, response_id: str, *, obfuscated: bool = False
    ) -> list[Action]:
        """Handles an accepted request on the lane: follows the new response."""
        left = self.leave_running(response_id)
        state = self._lanes[lane]
        state.submitting = False
        state.busy[response_id] += 1
        return [*left, Follow(response_id, -1, lane, obfuscated=obfuscated)]

    def refused(self, lane: str | None, problem: Problem) -> list[Action]:
        """Handles a refused request on the lane: reports the problem and submits the next one."""
        self._lanes[lane].submitting = False
        return [Say(problem.event(stream_id=lane)), *self._next(lane)]

    def ended(
        self, lane: str | None, response_id: str, successor: str | None = None
    ) -> list[Action]:
        """Handles a response on the lane that has ended or cannot be followed any more.

        If the response was steered, the lane follows its successor before its next request.
        """
        state = self._lanes.get(lane)
        if state is None or response_id not in state.busy:
            return []
        follows: list[Action] = []
        if successor is not None and not any(successor in one.busy for one in self._lanes.values()):
            state.busy[successor] += 1
            follows.append(Follow(successor, -1, lane))
        state.busy[response_id] -= 1
        if not state.busy[response_id]:
            del state.busy[response_id]
        return [*follows, *self._next(lane)]

    @property
    def is_submitting(self) -> bool:
        """True while the response of a request is not known yet."""
        return any(state.submitting for state in self._lanes.values())

    def follow_running(self, response_id: str) -> list[Action]:
        """Follows a response of a followed conversation, on a lane that has its id as name.

        Does nothing if the socket already follows the response, or as many as it may. Do not call
        it while `is_submitting`, because the response may be that of the request.
        """
        is_followed = any(response_id in state.busy for state in self._lanes.values())
        if is_followed or response_id in self._lanes or self._open >= MAX_FOLLOWED:
            return []
        self._lanes[response_id] = _Lane(Counter([response_id]), is_own=True)
        return [Follow(response_id, -1, response_id)]

    def leave_running(self, response_id: str) -> list[Action]:
        """Stops following a response that only `follow_running` has begun to follow."""
        if not self._is_own(response_id):
            return []
        return [Leave(response_id), *self.ended(response_id, response_id)]

    def _is_own(self, response_id: str) -> bool:
        """Returns True if only `follow_running` has begun to follow the response."""
        state = self._lanes.get(response_id)
        return state is not None and state.is_own and response_id in state.busy

    def close(self) -> None:
        """Drops the requests that wait in the lanes, and releases their bytes."""
        for state in self._lanes.values():
            while state.waiting:
                self._byte_limiter.take(-len(state.waiting.popleft()))

    def _unpacked(self, packed: bytes) -> Submit:
        self._byte_limiter.take(-len(packed))
        body = _unpack(packed)
        message = parse_message(body)
        assert isinstance(message, ResponseCreate)  # noqa: S101 - nothing else is packed
        return Submit(message, body)

    def _act(self, message: ClientMessage, body: dict[str, Any]) -> list[Action]:
        match message:
            case ResponseCreate(stream_id=lane):
                return self._create(lane, Submit(message, body))
            case ResponseCancel(response_id=response_id, stream_id=lane):
                return [Cancel(response_id, lane, message_traceparent(message.client_metadata))]
            case Resume():
                return self._resume(message)
            case FollowConversation() | UnfollowConversation() | MarkRead():
                return [Converse(message)]
            case Console(response_id=response_id):
                return [Watch(response_id)]
            case Ping(id=id_):
                return [Pong(id_)]
            case Auth() | ResponseSteer():
                return []

    def _create(self, lane: str | None, submit: Submit) -> list[Action]:
        if lane not in self._lanes and self._open >= MAX_FOLLOWED:
            raise _too_many_followed() if lane is None else _too_many_lanes()
        state = self._lanes.setdefault(lane, _Lane())
        state.is_own = False
        if state.idle:
            state.submitting = True
            return [submit]
        if self._waiting >= MAX_WAITING:
            raise _too_many(
                f"One socket may have at most {MAX_WAITING} queued requests.",
                ("X-RateLimit-Limit-Waiting", MAX_WAITING),
            )
        try:
            packed = _pack(submit.body)
        except OverflowError:
            check_storable(submit.body, "")  # raises the error that names the integer
            raise
        if not self._byte_limiter.take(len(packed)):
            raise _too_many(
                f"Queued requests may have at most {self._byte_limiter.most} bytes across all "
                "sockets.",
                ("X-RateLimit-Limit-Waiting-Bytes", self._byte_limiter.most),
            )
        self._waiting += 1
        state.waiting.append(packed)
        return []

    def _resume(self, resume: Resume) -> list[Action]:
        response_id, lane = resume.response_id, resume.stream_id
        is_own = self._is_own(response_id)
        if not is_own and any(response_id in state.busy for state in self._lanes.values()):
            raise Problem(
                409,
                "already_followed",
                "This socket already follows this response, and will receive its events.",
                param="response_id",
            )
        if self._open - is_own >= MAX_FOLLOWED:
            raise _too_many_followed()
        if not response_id.isascii():
            raise unknown(response_id)
        left = self.leave_running(response_id)
        state = self._lanes.setdefault(lane, _Lane())
        state.is_own = False
        state.busy[response_id] += 1
        shown = Shown(resume.item_id, resume.event_type)
        obfuscated = bool(resume.include_obfuscation)
        trace = message_traceparent(resume.client_metadata)
        follow = Follow(response_id, resume.starting_after, lane, shown, obfuscated, trace)
        return [*left, follow]

    def _next(self, lane: str | None) -> list[Action]:
        state = self._lanes[lane]
        if not state.idle:
            return []
        if state.waiting:
            self._waiting -= 1
            state.submitting = True
            return [self._unpacked(state.waiting.popleft())]
        del self._lanes[lane]
        if not self._lanes:
            self._lanes = {}  # a new dict, because an emptied dict keeps its hash table
        return []


def _too_many(why: str, limit: tuple[str, float]) -> Problem:
    message = f"{why} Wait until a response finishes."
    return Problem(429, "too_many", message, retry_after=1, limit=limit)


def _too_many_followed() -> Problem:
    why = f"One socket may follow at most {MAX_FOLLOWED} responses."
    return _too_many(why, ("X-RateLimit-Limit-Running", MAX_FOLLOWED))


def _too_many_lanes() -> Problem:
    """Returns the standard's error for a new lane; the standard's own limit is 32 lanes."""
    return invalid(
        "stream_id",
        f"This WebSocket already follows {MAX_FOLLOWED} responses, which is the limit. "
        "Reuse the stream_id of one of them, or open a new WebSocket.",
        "websocket_stream_limit_reached",
    )
