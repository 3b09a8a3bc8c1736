"""Defines a job, its states, and all transitions between the states.

    from       submit   claim     retry    give_back  rescue   finish            cancel
    (nothing)  queued
    (nothing)  completed, by submit_completed: a request without generation
    queued              running                                                  cancelled
    running                       queued   queued     queued   its own status    (asked for)
    completed, incomplete, failed, cancelled: final

Each column is a script in `jobs/scripts/`, and the scripts enforce this table in Redis. Two kinds
of queued jobs become `running` before they end: a job whose waiting time is over, and a job whose
cancellation was requested while it ran. A rescue or a worker claims such a job to write its last
event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .errors import NewerFormat
from .worker_death import CONTINUE, OnWorkerDeath

if TYPE_CHECKING:
    from typing import Self


# The parameter of a request with Holdline's own options, and its member that names the turn of a
# conversation that the request continues.
OPTIONS: Final = "holdline"
PREVIOUS: Final = "previous_response_id"


class Status(StrEnum):
    """The states of a job, with the names of the Responses API.

    The only different name is `running`, which the Responses API calls `in_progress`.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, _: object) -> Self:
        """Handles a state that this version does not know. Raises: NewerFormat."""
        raise NewerFormat

    @property
    def ended(self) -> bool:
        """True if this is one of the four final states."""
        return self not in (Status.QUEUED, Status.RUNNING)


class TurnSlice(NamedTuple):
    """A range of items, from index `first` up to index `stop` - 1.

    `response_id` is the id of an ended response, or of a conversation whose log contains the items.
    For a conversation, `last_item` is the id of the last item of the range, or "" if the range was
    shortened. If Redis loses the end of a log, other items may get the same indexes, but not the
    same ids.
    """

    response_id: str
    first: int
    stop: int
    last_item: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """A client's request, which is stored when it is submitted and never changes.

    `params` is the validated request body of the Responses API. The server has filled in the model,
    the service tier and the ids of input items. Other fields that the client omitted are absent.
    `created_at` is a Unix time in seconds, which is only shown to clients.

    `context` contains the items of earlier turns, oldest first, and `context_bytes` is their size
    as MessagePack. If the items come from stored turns, `turns` names these turns. Redis then
    stores the job without `context`, and the worker that claims the job reads the turns.
    """

    id: str
    owner: str
    created_at: int
    params: dict[str, Any]
    context: list[dict[str, Any]] = field(default_factory=list)
    context_bytes: int = 0
    turns: list[TurnSlice] = field(default_factory=list)

    @property
    def conversation(self) -> str:
        """The id of the conversation to which the job belongs, or ""."""
        id_: str = (self.params.get("conversation") or {}).get("id", "")
        return id_

    @property
    def continues(self) -> str:
        """The id of the response that the job continues in its conversation, if it names one.

        Returns "-" if the job continues only the items before the first response, and "" if the
        request names no turn. In the second case, the job continues all items of the conversation.
        """
        stated = self.params.get(OPTIONS) or {}
        return stated[PREVIOUS] or "-" if PREVIOUS in stated else ""


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """The settings that must have the same values in all servers and workers on one Redis.

    Names that end in `_ms` are times in milliseconds. The settings `tenant_*` are the default
    limits of each tenant, and `subject_*` the default limits of each end user. 0 means no limit.
    """

    lease_ms: int = 15_000
    retention_ms: int = 3_600_000
    max_wait_ms: int = 3_600_000
    max_run_ms: int = 900_000
    max_attempts: int = 3
    max_waiting: int = 10_000
    max_waiting_bytes: int = 1 << 30
    conversation_ms: int = 30 * 24 * 3_600_000
    max_conversation_bytes: int = 4 << 20
    max_conversation_items: int = 10_000
    subject_conversation_bytes: int = 256 << 20
    orphan_ms: int = 60_000
    cancel_orphans: bool = False
    tenant_running: int = 0
    tenant_sockets: int = 0
    tenant_waiting: int = 0
    tenant_waiting_bytes: int = 0
    tenant_requests: int = 0
    tenant_tokens: int = 0
    tenant_money: float = 0.0
    max_input_tokens: int = 0
    subject_running: int = 0
    subject_requests: int = 0
    subject_tokens: int = 0
    subject_money: float = 0.0
    on_worker_death: OnWorkerDeath = CONTINUE
    partitions: range = range(1)
    webhooks: bool = False
    hook_wait_ms: int = 0
    push: bool = False
    push_wait_ms: int = 10_000

    @property
    def max_feed_events(self) -> int:
        """The maximum number of events in the feed of a conversation.

        A usual turn has two items and six events. The events of accepted responses may exceed the
        limit.
        """
        return 4 * self.max_conversation_items

    @property
    def job_ttl_ms(self) -> int:
        """The TTL of an unfinished job in milliseconds. It is longer than any job can take."""
        return self.max_wait_ms + self.max_attempts * 2 * self.max_run_ms + self.retention_ms

    @property
    def only_if_unseen(self) -> bool:
        """True if webhooks or pushes are sent only for responses that no client has received."""
        return self.push or (self.webhooks and self.hook_wait_ms > 0)

    @property
    def of_tenants(self) -> dict[str, float]:
        """The default limits of a tenant, by their names in `tenants.FIELDS`."""
        return {
            "sockets": self.tenant_sockets,
            "running": self.tenant_running,
            "waiting": self.tenant_waiting,
            "waiting_bytes": self.tenant_waiting_bytes,
            "requests_per_minute": self.tenant_requests,
            "tokens_per_day": self.tenant_tokens,
            "money_per_day": self.tenant_money,
            "input_tokens": self.max_input_tokens,
            "subject_running": self.subject_running,
            "subject_requests_per_minute": self.subject_requests,
            "subject_tokens_per_day": self.subject_tokens,
            "subject_money_per_day": self.subject_money,
        }

    @property
    def limit_arguments(self) -> dict[str, float]:
        """The arguments of the scripts that charge a tenant and its end user with a request."""
        return {
            "tenant_waiting": self.tenant_waiting,
            "tenant_requests": self.tenant_requests,
            "tenant_tokens": self.tenant_tokens,
            "tenant_money": self.tenant_money,
            "tenant_input_tokens": self.max_input_tokens,
            "tenant_waiting_bytes": self.tenant_waiting_bytes,
            "subject_running": self.subject_running,
            "subject_requests": self.subject_requests,
            "subject_tokens": self.subject_tokens,
            "subject_money": self.subject_money,
        }

    @property
    def inspect_ms(self) -> int:
        """The interval in milliseconds at which each unfinished job is checked for loss."""
        return max(2 * self.lease_ms, 1_000)
