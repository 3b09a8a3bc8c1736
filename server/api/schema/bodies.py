"""The types of webhook bodies, and of HTTP bodies other than response objects."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from .conversations import ListedConversation
from .messages import Problem


class ErrorBody(Struct):
    """The body of every HTTP response with a status of 400 or above."""

    error: Problem


class Deleted(Struct):
    id: str
    object: Literal["response"]
    deleted: Literal[True]


class Subject(Struct):
    """The response that a webhook reports on."""

    id: str


class WebhookEvent(Struct):
    """The body of a webhook, which reports that a response has ended."""

    id: str
    object: Literal["event"]
    created_at: int
    type: Literal[
        "response.completed", "response.failed", "response.incomplete", "response.cancelled"
    ]
    data: Subject


class GivenFeedback(Struct):
    """The feedback of a user on a response, as a webhook reports it."""

    id: str
    rating: Literal["up", "down"] | None
    comment: str


class FeedbackEvent(Struct):
    """The body of a webhook, which reports that the feedback on a response has changed."""

    id: str
    object: Literal["event"]
    created_at: int
    type: Literal["holdline.feedback"]
    data: GivenFeedback


class Feedback(Struct):
    """The feedback of a user on a response. It is empty if there is none."""

    id: str
    object: Literal["holdline.feedback"]
    rating: Literal["up", "down"] | None
    comment: str


class InputItems(Struct):
    """A page of a response's input items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ConversationList(Struct):
    """A page of the conversations of an end user.

    `last_id` is the value of `after` for the next page. With `query`, it may be the id of a
    conversation that is not in `data`.
    """

    object: Literal["list"]
    data: list[ListedConversation]
    first_id: str | None
    last_id: str | None
    has_more: bool


class DeletedConversation(Struct):
    id: str
    object: Literal["conversation.deleted"]
    deleted: Literal[True]


class Items(Struct):
    """A page of a conversation's items."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Compacted(Struct):
    """A compacted conversation: user messages, and a compaction item."""

    id: str
    object: Literal["response.compaction"]
    created_at: int
    output: list[dict[str, Any]]
    usage: dict[str, Any]
    holdline: dict[str, Any] | None


class Estimate(Struct):
    """Holdline's own fields of `InputTokens`. `estimated` is true if the number is an estimate."""

    estimated: bool


class InputTokens(Struct):
    """The number of input tokens of a request."""

    object: Literal["response.input_tokens"]
    input_tokens: int
    holdline: Estimate


class Model(Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(Struct):
    object: Literal["list"]
    data: list[Model]


class PushKey(Struct):
    object: Literal["holdline.push_key"]
    key: str


class PushSubscription(Struct):
    """A subscription to pushes, without its address and its keys."""

    id: str
    object: Literal["holdline.push_subscription"]
    created_at: int
    expires_at: int | None
    type: Literal["browser", "device"]
    service: str | None


class PushSubscriptions(Struct):
    object: Literal["list"]
    data: list[PushSubscription]
    has_more: Literal[False]


class DeletedPushSubscription(Struct):
    id: str
    object: Literal["holdline.push_subscription"]
    deleted: Literal[True]


class Live(Struct):
    status: Literal["ok"]


class Ready(Struct):
    status: Literal["ready", "not ready"]
    redis: bool
    notifications: bool
    draining: bool


class ModelState(Struct):
    """The state of one model, or of all models (`*`) if there is no models file."""

    model: str
    ready: bool
    reason: Literal["no_workers", "workers_draining", "workers_paused", "model_paused"] | None
    workers: int
    waiting: int
    oldest_seconds: float


class Service(Struct):
    """The state of the whole service. It is ready if every model is ready."""

    status: Literal["ready", "not ready"]
    reason: Literal["redis_unavailable"] | None
    models: list[ModelState]


class OriginCheck(Struct):
    """The result of checking a site's origin, with the name of the setting that allows sites."""

    origin: str | None
    allowed: bool
    setting: str
