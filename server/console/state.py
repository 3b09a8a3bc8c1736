"""Builds the state of the service from the data read from Redis. Performs no I/O."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from jobs.server_registry import ServerState as Server
from jobs.worker_registry import WorkerState as Worker
from server.api.schema.console import (
    AnswerState,
    JobCounts,
    ModelState,
    RedisState,
    RefusedRequests,
    ServerState,
    State,
    TenantState,
    WorkerCounts,
    WorkerState,
)

from .alerts import alerts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jobs.overview import Overview, TenantLoad
    from jobs.redis.node_state import NodeState
    from jobs.running import RunningJob
    from jobs.server_registry import LiveServer
    from jobs.worker_registry import LiveWorker

    from .fleet import Fleet

# The bounds of the lists. The counts beside them include what the lists leave out.
MAX_ANSWERS: Final = 200
MAX_WORKERS: Final = 200
MAX_DEAD: Final = 100
MAX_SERVERS: Final = 200
MAX_CODES: Final = 50
# Workers that need attention come first.
_ORDER: Final = {Worker.PAUSED: 0, Worker.DRAINING: 1, Worker.READY: 2}
EMPTY: Final = State(
    read_at=0,
    redis_available=False,
    alerts=[],
    counts=JobCounts(0, 0, 0, 0, 0, 0, 0, 0),
    models=[],
    tenants=[],
    tenant_count=0,
    workers=[],
    worker_counts=WorkerCounts(0, 0, 0, 0, 0),
    answers=[],
    dead=[],
)


def state_of(
    overview: Overview,
    fleet: Fleet,
    running: Iterable[RunningJob],
    dead: Iterable[bytes],
    models: Iterable[str],
    nodes: Iterable[NodeState] = (),
    servers: Sequence[LiveServer] = (),
) -> State:
    """Returns the state of the service, with its alerts.

    `models` are the models that are shown even if no job waits for them.
    """
    now, total = overview.now / 1000, overview.total
    states = fleet.states
    first = sorted(fleet.workers, key=_order)
    state = State(
        read_at=now,
        redis_available=True,
        alerts=[],
        counts=JobCounts(
            waiting=total.waiting,
            delayed=total.delayed,
            running=total.running,
            lost=total.expired_leases,
            dead=total.dead,
            unsettled=total.unsettled,
            webhooks=total.webhooks_waiting,
            started=total.started,
        ),
        models=_models(overview, fleet, models),
        tenants=[_tenant(load) for load in overview.tenants],
        tenant_count=len(overview.tenants) + overview.other_tenants,
        workers=[worker_state(worker) for worker in first[:MAX_WORKERS]],
        worker_counts=WorkerCounts(
            total=len(fleet.workers),
            ready=states[Worker.READY],
            draining=states[Worker.DRAINING],
            paused=states[Worker.PAUSED],
            slots=fleet.slots,
        ),
        answers=[_answer(job, fleet) for job in running],
        dead=[entry.decode("ascii", "backslashreplace")[:128] for entry in dead][:MAX_DEAD],
        redis=[RedisState(**node.as_dict(), nearly_full=node.nearly_full) for node in nodes],
        servers=[_server(one) for one in sorted(servers, key=_server_order)[:MAX_SERVERS]],
        server_count=len(servers),
        refused=_refused(servers),
    )
    state.alerts = alerts_of(state)
    return state


def _order(worker: LiveWorker) -> tuple[int, bool, str, str]:
    return _ORDER[worker.state], not worker.reason, worker.host, worker.id


def worker_state(worker: LiveWorker) -> WorkerState:
    """Returns a worker without the responses that it runs."""
    return WorkerState(
        id=worker.id,
        host=worker.host,
        pid=worker.pid,
        version=worker.version,
        state=worker.state.value,
        reason=worker.reason or None,
        started_at=worker.started_at / 1000,
        seen_at=worker.seen_at / 1000,
        running=worker.running,
        concurrency=worker.concurrency,
        models=list(worker.models),
    )


def _server_order(server: LiveServer) -> tuple[bool, str, int]:
    return server.record.state is Server.READY, server.record.host, server.record.pid


def _server(server: LiveServer) -> ServerState:
    record = server.record
    return ServerState(
        id=server.id,
        host=record.host,
        pid=record.pid,
        version=record.version,
        state=record.state.value,
        started_at=server.started_at / 1000,
        seen_at=server.seen_at / 1000,
        sockets=record.sockets,
        streams=record.streams,
        refused=sum(record.refused.values()),
    )


def _refused(servers: Iterable[LiveServer]) -> list[RefusedRequests]:
    """Returns the refused requests of all servers, the most frequent codes first."""
    total: Counter[str] = Counter()
    for server in servers:
        total.update(server.record.refused)
    return [RefusedRequests(code, count) for code, count in total.most_common(MAX_CODES)]


def _models(overview: Overview, fleet: Fleet, models: Iterable[str]) -> list[ModelState]:
    now = overview.now / 1000
    tiers: dict[str, dict[str, int]] = {}
    oldest: dict[str, float] = {}
    for queue in overview.queues:
        tiers.setdefault(queue.model, {})[queue.tier] = queue.waiting
        oldest[queue.model] = max(oldest.get(queue.model, 0.0), queue.oldest_seconds)
    paused = {pause.model: pause for pause in overview.paused}
    found = []
    names = {*models, *tiers, *paused}
    for model in sorted(names):
        pause = paused.get(model)
        waits = tiers.get(model, {})
        recent = fleet.recent.of(model) if model else fleet.recent.except_for(names)
        found.append(
            ModelState(
                model=model,
                waiting=sum(waits.values()),
                oldest_at=now - oldest[model] if model in oldest else None,
                tiers=waits,
                workers=fleet.serving(model),
                running=fleet.running(model),
                paused_until=None if pause is None else now + pause.seconds,
                pause_reason=None if pause is None else pause.reason,
                attempts=recent.ended,
                failed_attempts=recent.failed,
                failure_cause=recent.cause or None,
            )
        )
    return found


def _tenant(load: TenantLoad) -> TenantState:
    return TenantState(
        tenant=load.tenant,
        unfinished=load.unfinished,
        running=load.running,
        held=load.held,
        tokens_used=load.tokens,
        tokens_limit=load.tokens_per_day or None,
        money_used=load.money,
        money_limit=load.money_per_day or None,
    )


def _answer(job: RunningJob, fleet: Fleet) -> AnswerState:
    """Combines a lease, which is exact, with the record of its worker, which is seconds old."""
    known = fleet.answer(job.id)
    if known is not None and known[1].attempt != job.attempt:
        known = None  # the record is about an earlier attempt
    worker, response = known or (None, None)
    first = None if response is None else response.first_token_at
    return AnswerState(
        response_id=job.id,
        model=job.model if response is None else response.model,
        attempt=job.attempt,
        submitted_at=job.submitted / 1000,
        lost=job.lease_ms < 0,
        worker=None if worker is None else worker.id,
        host=None if worker is None else worker.host,
        started_at=None if response is None else response.started_at / 1000,
        first_token_at=None if first is None else first / 1000,
    )
