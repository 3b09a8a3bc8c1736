"""The job, its states, and the only transitions between them.

    from       submit   claim     retry    give_back  rescue   finish            cancel
    (nothing)  queued
    (nothing)  completed, by submit_completed: a request without generation
    queued              running                                                  cancelled
    running                       queued   queued     queued   its own status    (asked for)
    completed, incomplete, failed, cancelled: final

Each column is one script in `jobs/scripts/`; the scripts enforce this table in Redis. A queued job
whose waiting time is over, or whose cancellation was requested while it ran, becomes `running`
before it ends: a rescue or a worker claims it to write its last event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple


class Status(StrEnum):
    """The states of a job, named as in the standard, whose name for `running` is `in_progress`."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True for the four final states."""
        return self not in (Status.QUEUED, Status.RUNNING)


class TurnSlice(NamedTuple):
    """The items of an ended response from index `first` up to, but not including, `stop`."""

    response_id: str
    first: int
    stop: int


@dataclass(frozen=True, slots=True)
class Job:
    """A client's request, written once when it is submitted and never changed.

    `params` is the validated request body of the standard. The model, the service tier and the ids
    of input items are filled in; other members that the client omitted stay absent. `created_at` is
    in Unix seconds and is only displayed.

    `context` holds the items of earlier turns, oldest first, and `context_bytes` is their size as
    MessagePack. If they come from stored turns, `turns` names those turns: then the job is stored
    without its context, and the worker that claims it reads the turns.
    """

    id: str
    owner: str
    created_at: int
    params: dict[str, Any]
    context: list[dict[str, Any]] = field(default_factory=list)
    context_bytes: int = 0
    turns: list[TurnSlice] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SharedSettings:
    """The settings that server and worker must agree on. Times are in milliseconds.

    `tenant_*` are the limits of tenants that have no limits of their own, and `subject_*` those of
    each of their end users; 0 means unlimited.
    """

    lease_ms: int = 15_000
    retention_ms: int = 3_600_000
    max_wait_ms: int = 3_600_000
    max_run_ms: int = 900_000
    max_attempts: int = 3
    max_waiting: int = 10_000
    max_waiting_bytes: int = 1 << 30
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
    fail_on_worker_death: bool = False
    partitions: int = 1
    webhooks: bool = False
    hook_wait_ms: int = 0

    @property
    def job_ttl_ms(self) -> int:
        """The TTL of an unfinished job, which is longer than any job can take."""
        return self.max_wait_ms + self.max_attempts * 2 * self.max_run_ms + self.retention_ms

    @property
    def only_if_unseen(self) -> bool:
        """True if a webhook is sent only when no client has received the whole response."""
        return self.webhooks and self.hook_wait_ms > 0

    @property
    def of_tenants(self) -> dict[str, float]:
        """The limits of a tenant without limits of its own, by the names in `tenants.FIELDS`."""
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
    def inspect_ms(self) -> int:
        """The interval of the checks whether a waiting or running job was lost."""
        return max(2 * self.lease_ms, 1_000)
