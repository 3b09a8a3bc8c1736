"""Tests that `holdline status` shows the service, and the timeline of a response."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from admin.status_text import duration
from jobs.ids import new_response_id
from jobs.queue import Queue
from jobs.recent_attempts import RecentAttempts
from jobs.redis.check import info_fields
from jobs.redis.node_state import node_states
from jobs.redis.pipe import Pipe
from jobs.worker_registry import RunningRecord, WorkerRecord, WorkerRegistry, WorkerState
from tests import commands
from tests.commands import Run
from tests.jobs.factories import NAMES, SETTINGS, a_job, new_claim, opening, submitted

MODELS = '[models.fast]\nbase_url = "http://a"\n[models.slow]\nbase_url = "http://b"\n'


@pytest.fixture
def queue(pipe: Pipe) -> Queue:
    return Queue(pipe, SETTINGS)


@pytest.fixture
def run(
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    (tmp_path / "models.toml").write_text(MODELS)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("HOLDLINE_MODELS", str(tmp_path / "models.toml"))
    monkeypatch.setenv("HOLDLINE_API_KEYS", "redis")
    monkeypatch.setenv("HOLDLINE_TENANT_TOKENS_PER_DAY", "1000000")
    return commands.runner("status", capsys)


async def shown_by(run: Run, *arguments: str) -> list[list[str]]:
    """Returns the words of each line that the command prints."""
    code, shown = await asyncio.to_thread(run, *arguments)
    assert 0 == code, shown
    return [line.split() for line in shown.splitlines()]


def a_record(*running: RunningRecord) -> WorkerRecord:
    state = WorkerState.READY
    return WorkerRecord("web-1", 7, "1.2", 9_000, 4, ("fast",), state, "", len(running), running)


async def test_the_status_shows_what_runs_waits_and_is_missing(
    run: Run, pipe: Pipe, queue: Queue
) -> None:
    for queue_name in ("d:fast", "d:fast", "p:slow"):
        job = a_job("acme/anna", "a secret prompt")
        await queue.submit(job, opening(job), queue_name=queue_name)
    [grant] = await queue.leases.claim(0, new_claim(), 1)
    await pipe.call("ZINCRBY", f"{NAMES.since}|d:fast", -95_000, *await _oldest(pipe))
    await queue.pause("fast", 30)
    running = RunningRecord(grant.response_id, "slow", 1, 2_000, 1_500)
    await WorkerRegistry(pipe, 60_000).register("worker-id", a_record(running))

    lines = await shown_by(run)

    assert ["queue", "2", "waiting,", "the", "oldest", "for", "1m"] == lines[0][:7]
    assert ["running", "1"] in lines
    assert ["dead", "0"] in lines
    assert ["fast", "1", "ready", "model_paused", "for"] in [line[:5] for line in lines]
    assert ["slow", "0", "not", "ready", "no_workers", "-"] in lines
    assert ["default", "fast", "2", "1m"] in [line[:4] for line in lines]
    assert ["worker-id", "web-1:7", "1.2", "ready", "1/4"] in [line[:5] for line in lines]
    [response] = [line for line in lines if line[:1] == [grant.response_id]]
    assert ["acme", "slow", "1"] == response[1:4]
    assert ["500ms", "worker-id"] == response[-2:]
    [acme] = [line for line in lines if line[:1] == ["acme"]]
    assert (["2", "1"], ["of", "1000000"], "0%") == (acme[1:3], acme[4:6], acme[-1])
    [redis] = [line for line in lines if line[:1] in (["Valkey"], ["Redis"])]
    assert "ok" == redis[-1]
    assert "secret" not in str(lines)


async def test_the_status_shows_which_model_fails_and_a_redis_that_is_full(
    run: Run, pipe: Pipe
) -> None:
    recent = (RecentAttempts("fast", 60, 57, "upstream_unavailable"),)
    record = msgspec.structs.replace(a_record(), recent=recent)
    await WorkerRegistry(pipe, 60_000).register("worker-id", record)
    used = int(info_fields(await pipe.call("INFO", "memory"))["used_memory"])
    await pipe.call("CONFIG", "SET", "maxmemory", used + 50_000)
    try:
        lines = await shown_by(run)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", 0)

    [fast] = [line for line in lines if line[:3] == ["fast", "1", "ready"]]
    assert ["57", "of", "60", "attempts", "(upstream_unavailable)"] == fast[3:]
    [redis] = [line for line in lines if line[:1] in (["Valkey"], ["Redis"])]
    assert ["prompts", "are", "refused,"] == redis[-7:-4]


async def test_without_a_models_file_the_status_lists_the_models_of_the_workers(
    run: Run, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    await WorkerRegistry(pipe, 60_000).register("worker-id", a_record())
    monkeypatch.delenv("HOLDLINE_MODELS")

    lines = await shown_by(run)

    assert ["fast", "1", "ready", "-"] in lines
    assert "(any)" not in [line[0] for line in lines if line]


async def test_the_status_as_json_has_all_workers_and_numbers(
    run: Run, pipe: Pipe, queue: Queue
) -> None:
    registry = WorkerRegistry(pipe, 60_000)
    for number in range(25):
        await registry.register(f"w{number:02}", a_record())
    await submitted(queue, "acme/anna")

    [line] = (await asyncio.to_thread(run, "--json"))[1].splitlines()
    text = await shown_by(run)

    found = json.loads(line)
    assert (25, 1, "not ready") == (
        len(found["workers"]),
        found["queue"]["total"]["waiting"],
        found["service"]["status"],
    )
    [node] = found["redis"]
    assert node["used_bytes"] > 0
    assert ["…", "and", "5", "more", "workers"] in text


async def test_the_status_of_an_idle_service_is_short(run: Run) -> None:
    lines = await shown_by(run)

    assert ["queue", "0", "waiting;", "0", "wait", "for", "a", "retry"] == lines[0]
    headings = {line[0] for line in lines if line and line[0].isupper()}
    assert {"MODEL", "REDIS"} == headings


async def test_the_timeline_of_a_response_has_its_steps(run: Run, pipe: Pipe, queue: Queue) -> None:
    job = a_job("acme/anna", "a secret prompt")
    await queue.submit(job, opening(job), queue_name="p:fast")
    [grant] = await queue.leases.claim(0, new_claim(), 1, worker="worker-id")
    await queue.leases.retry(job.id, grant.claim, 1_500, "upstream_busy", http_status=429)

    lines = await shown_by(run, job.id)

    assert [job.id, "queued,", "tenant", "acme,", "tier", "priority,", "model", "fast,"] == (
        lines[0][:8]
    )
    [claimed] = [line for line in lines if "claimed" in line]
    assert ["claimed", "1", "worker-id"] == claimed[3:]
    [refused] = [line for line in lines if line[3:5] == ["http", "error"]]
    assert ["1", "worker-id", "429"] == refused[5:]
    [delayed] = [line for line in lines if "delayed" in line]
    assert ["upstream_busy,", "next", "attempt", "after", "1.5s"] == delayed[6:]
    assert "secret" not in str(lines)

    [line] = (await asyncio.to_thread(run, job.id, "--json"))[1].splitlines()
    steps = json.loads(line)["steps"]
    assert ["submitted", "queued", "claimed", "http_error", "delayed"] == [
        step["kind"] for step in steps
    ]
    assert "429" == steps[3]["code"]


async def test_an_unknown_response_is_named(run: Run) -> None:
    response_id = new_response_id(0)
    for id_ in (response_id, "resp_nothing"):
        code, shown = await asyncio.to_thread(run, id_)
        assert 1 == code
        assert id_ in shown
        assert 1 == len(shown.splitlines())


@pytest.mark.parametrize("response_id", ["", " "])
async def test_an_empty_id_is_wrong_usage(run: Run, response_id: str) -> None:
    code, shown = await asyncio.to_thread(run, response_id)
    assert (2, ["holdline status: RESPONSE_ID is empty; see holdline status --help"]) == (
        code,
        shown.splitlines(),
    )


async def test_a_control_character_in_a_record_does_not_reach_the_terminal(
    run: Run, pipe: Pipe
) -> None:
    running = RunningRecord("resp_1", "\x1b[31mred", 1, 5)
    record = replace_host(a_record(running), "web\n\x1b[2J")
    await WorkerRegistry(pipe, 60_000).register("w", record)

    shown = (await asyncio.to_thread(run))[1]

    assert "\x1b" not in shown
    assert "\\x1b[31mred" in shown


def replace_host(record: WorkerRecord, host: str) -> WorkerRecord:
    return WorkerRecord(host, *(getattr(record, name) for name in record.__struct_fields__[1:]))


async def test_the_state_of_redis_shows_a_memory_limit_and_failed_writes(pipe: Pipe) -> None:
    [before] = await node_states(pipe)
    await pipe.call("CONFIG", "SET", "maxmemory", "1gb")
    try:
        [after] = await node_states(pipe)
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory", "0")

    assert (0, 1 << 30, False) == (before.max_bytes, after.max_bytes, after.writes_fail)
    assert replace(after, max_bytes=0, used_bytes=0) == replace(before, used_bytes=0)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0ms"),
        (0.0123, "12ms"),
        (1, "1.0s"),
        (59.9, "59.9s"),
        (60, "1m 0s"),
        (95.4, "1m 35s"),
        (3_599.6, "1h 0m"),
        (7_260, "2h 1m"),
        (200_000, "2d 7h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, shown: str) -> None:
    assert shown == duration(seconds)


async def _oldest(pipe: Pipe) -> list[bytes]:
    found: list[bytes] = await pipe.call("ZRANGE", f"{NAMES.since}|d:fast", 0, 0)
    return found
