"""The text that `holdline status` prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from jobs.recent_attempts import RecentSum
from runtime.logs import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jobs.overview import Overview, TenantLoad
    from jobs.recent_attempts import RecentAttempts
    from jobs.redis.node_state import NodeState
    from jobs.service_health import ServiceHealth
    from jobs.timeline import Step, Timeline
    from jobs.worker_registry import LiveWorker, RunningResponse

# The text is for one screen, and `--json` shows everything.
MAX_WORKERS: Final = 20
MAX_RUNNING: Final = 20
MAX_TENANTS: Final = 15
ANY: Final = "(any)"


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the service and of its Redis masters.

    `tenants` contains the tenants of the running responses that are shown, by their ids.
    """

    overview: Overview
    health: ServiceHealth
    workers: Sequence[LiveWorker]
    nodes: Sequence[NodeState]
    tenants: Mapping[str, str]

    def as_dict(self) -> dict[str, Any]:
        """Returns the state as a JSON object."""
        return {
            "service": self.health.as_dict(),
            "queue": self.overview.as_dict(),
            "workers": [worker.as_dict() for worker in self.workers],
            "redis": [node.as_dict() for node in self.nodes],
            "tenants_of_responses": dict(self.tenants),
        }


def status_lines(status: Status) -> Iterator[str]:
    """Yields the lines that show the state of the service."""
    overview = status.overview
    total = overview.total
    oldest = f", the oldest for {duration(overview.oldest_seconds)}" if total.waiting else ""
    yield f"queue     {total.waiting} waiting{oldest}; {total.delayed} wait for a retry"
    lost = f", {total.expired_leases} of them lost their worker" if total.expired_leases else ""
    yield f"running   {total.running}{lost}"
    dead = "; run holdline dead list" if total.dead else ""
    yield f"dead      {total.dead}{dead}"
    yield (
        f"webhooks  {total.webhooks_waiting} waiting, {total.webhooks_sent} sent, "
        f"{total.webhooks_dead} abandoned, {total.webhooks_dropped} dropped"
    )
    yield from _models(status)
    yield from _queues(overview)
    yield from _workers(status)
    yield from _running(status)
    yield from _tenants(overview)
    yield from _redis(status.nodes)


def _models(status: Status) -> Iterator[str]:
    pauses = {paused.model: paused.seconds for paused in status.overview.paused}
    recent = RecentSum(one for worker in status.workers for one in worker.recent)
    rows = [
        (
            ANY if model.model == "*" else model.model,
            str(model.workers),
            "ready" if model.ready else "not ready",
            (model.reason or "")
            + (f" for {duration(pauses[model.model])}" if model.model in pauses else ""),
            _failures(recent.except_for(()) if model.model == "*" else recent.of(model.model)),
        )
        for model in status.health.models
    ]
    yield from table(("MODEL", "WORKERS", "STATE", "REASON", "FAILED IN 5 MIN"), rows)


def _failures(recent: RecentAttempts) -> str:
    if not recent.ended:
        return "-"
    cause = f" ({recent.cause})" if recent.cause else ""
    return f"{recent.failed} of {recent.ended} attempts{cause}"


def _queues(overview: Overview) -> Iterator[str]:
    rows = [
        (queue.tier, queue.model or ANY, str(queue.waiting), duration(queue.oldest_seconds))
        for queue in overview.queues
    ]
    yield from table(("TIER", "MODEL", "WAITING", "OLDEST"), rows)


def _workers(status: Status) -> Iterator[str]:
    now = status.overview.now
    rows = [
        (
            worker.id,
            f"{worker.host}:{worker.pid}",
            worker.version,
            f"{worker.state}" + (f" ({worker.reason})" if worker.reason else ""),
            f"{worker.running}/{worker.concurrency}",
            duration((now - worker.started_at) / 1000),
            ", ".join(worker.models) or ANY,
        )
        for worker in status.workers[:MAX_WORKERS]
    ]
    columns = ("WORKER", "PROCESS", "VERSION", "STATE", "JOBS", "UP", "MODELS")
    yield from table(columns, rows, len(status.workers), "workers")


def longest_running(workers: Sequence[LiveWorker]) -> list[tuple[RunningResponse, LiveWorker]]:
    """Returns the running responses with their workers, beginning with the oldest attempt."""
    running = [(one, worker) for worker in workers for one in worker.responses]
    return sorted(running, key=lambda pair: pair[0].started_at)


def _running(status: Status) -> Iterator[str]:
    now = status.overview.now
    running = longest_running(status.workers)
    rows = [
        (
            one.response_id,
            status.tenants.get(one.response_id, "-"),
            one.model or ANY,
            str(one.attempt),
            duration((now - one.started_at) / 1000),
            "-"
            if one.first_token_at is None
            else duration((one.first_token_at - one.started_at) / 1000),
            worker.id,
        )
        for one, worker in running[:MAX_RUNNING]
    ]
    columns = ("RESPONSE", "TENANT", "MODEL", "ATTEMPT", "RUNS FOR", "FIRST TOKEN", "WORKER")
    yield from table(columns, rows, len(running), "running responses")


def _tenants(overview: Overview) -> Iterator[str]:
    shown = overview.tenants[:MAX_TENANTS]
    rows = [
        (
            load.tenant,
            str(load.waiting),
            str(load.running) + (" (limit reached)" if load.held else ""),
            _of(load.tokens, load.tokens_per_day),
            _of(load.money, load.money_per_day),
            _share(load),
        )
        for load in shown
    ]
    columns = ("TENANT", "WAITING", "RUNNING", "TOKENS TODAY", "COST TODAY", "BUDGET USED")
    yield from table(columns, rows)
    rest = overview.tenants[MAX_TENANTS:]
    tenants = overview.other_tenants + sum(load.unfinished > 0 for load in rest)
    jobs = overview.other_unfinished + sum(load.unfinished for load in rest)
    if tenants:
        yield f"… and {tenants} more tenants with {jobs} unfinished responses"


def _share(load: TenantLoad) -> str:
    return f"{load.budget_share:.0%}" if load.tokens_per_day or load.money_per_day else "-"


def _redis(nodes: Sequence[NodeState]) -> Iterator[str]:
    rows = [
        (
            f"{node.name} {node.version}" + (f" port {node.port}" if node.port else ""),
            _of(round(node.used_bytes / 1e6, 1), round(node.max_bytes / 1e6, 1)) + " MB",
            "append-only file" if node.append_only else "no append-only file",
            _trouble(node) or "ok",
        )
        for node in nodes
    ]
    yield from table(("REDIS", "MEMORY", "PERSISTENCE", "STATE"), rows)


def _trouble(node: NodeState) -> str:
    """Returns what is wrong with a master, or ""."""
    parts = ["the last write to disk failed"] if node.writes_fail else []
    if node.nearly_full:
        parts.append(f"memory {node.used_share:.0%} full: prompts are refused, or will be soon")
    return "; ".join(parts)


def timeline_lines(timeline: Timeline) -> Iterator[str]:
    """Yields the lines that show the timeline of one response."""
    facts = [timeline.status, f"tenant {timeline.tenant}", f"tier {timeline.tier}"]
    facts += [f"model {timeline.model}"] if timeline.model else []
    facts += [f"attempts {timeline.attempts}", f"failures {timeline.failures}"]
    yield f"{timeline.response_id}  {', '.join(facts)}"
    yield from table(
        ("TIME", "AFTER", "STEP", "ATTEMPT", "WORKER", "DETAILS"),
        [
            (
                moment(step.at),
                f"{duration(step.since_ms / 1000)}",
                str(step.kind).replace("_", " "),
                str(step.attempt or "-"),
                step.worker or "-",
                _details(step),
            )
            for step in timeline.steps
        ],
    )
    if not timeline.complete:
        yield "some steps are missing: only the latest are kept, or the log cannot be decrypted"


def _details(step: Step) -> str:
    parts = [step.code] if step.code else []
    if step.wait_ms is not None:
        parts.append(f"next attempt after {duration(step.wait_ms / 1000)}")
    if step.tries is not None:
        parts.append(f"next attempt at this time, {step.tries} so far")
    return ", ".join(parts)


def table(
    columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], total: int = 0, what: str = ""
) -> Iterator[str]:
    """Yields an empty line and the lines of a table, or nothing without rows.

    `total` is the number of all rows, of which `rows` may be the first ones, and `what` names them.
    """
    if not rows:
        return
    cells = [tuple(map(printable, row)) for row in (columns, *rows)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    yield ""
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if total > len(rows):
        yield f"… and {total - len(rows)} more {what}"


def duration(seconds: float) -> str:
    """Returns a duration with its two largest units, such as `1m 35s`."""
    if seconds < 1:
        return f"{max(round(1000 * seconds), 0)}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    at = next(index for index, (_, length) in enumerate(units) if whole >= length)
    (large, length), (small, part) = units[at], units[at + 1]
    return f"{whole // length}{large} {whole % length // part}{small}"


def moment(at: int) -> str:
    """Returns a time in UTC with its milliseconds. `at` is in milliseconds since 1970."""
    found = datetime.fromtimestamp(at / 1000, UTC)
    return f"{found:%Y-%m-%d %H:%M:%S}.{at % 1000:03}"


def _of(used: float, limit: float) -> str:
    return f"{used:.10g} of {limit:.10g}" if limit else f"{used:.10g}"
