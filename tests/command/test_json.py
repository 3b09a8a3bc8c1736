"""Tests that docs/json.md lists the keys and types of each command's JSON output."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from admin.doctor.command import PromiseBroken
from command.root import holdline
from jobs.ids import new_response_id
from jobs.names import Partition
from jobs.push_subscriptions import PushSubscriptions, Subscription
from jobs.queue import Queue
from jobs.recent_attempts import RecentAttempts
from jobs.redis.pipe import Pipe
from jobs.worker_registry import RunningRecord, WorkerRecord, WorkerRegistry, WorkerState
from tests.commands import lines
from tests.jobs.factories import SETTINGS, a_job, new_claim, opening
from tests.paths.documents import ROOT, table

JSON = (ROOT / "docs/json.md").read_text()
NAMES = {str: "string", bool: "boolean", int: "number", float: "number", dict: "object"}
# The commands whose output docs/json.md does not list in a table.
WITHOUT_TABLE = {"ask", "completion", "demo-model", "probe", "server", "up", "worker"}

Types = dict[str, set[str]]


def documented(heading: str) -> tuple[Types, set[str]]:
    """Returns the types of each key in a table, and the keys that may be missing."""
    types: Types = {}
    optional = set()
    for cell, kinds, _ in table(JSON, heading):
        found = re.fullmatch(r"`(.+)`(\?)?", cell)
        assert found, cell
        types[found[1]] = set(kinds.split(", "))
        if found[2]:
            optional.add(found[1])
    return types, optional


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yields the path and the type of each value in an object that is no object or list."""
    match value:
        case None:
            yield path, "null"
        case dict() if value:
            for key, inner in value.items():
                yield from leaves(inner, f"{path}.{key}" if path else key)
        case dict():
            yield path, "object"
        case list():
            for inner in value:
                yield from leaves(inner, f"{path}[]")
        case _:
            yield path, NAMES[type(value)]


def key_of(path: str, types: Types) -> tuple[str, bool]:
    """Returns the documented key of a path, and True if the path leads into an opaque object."""
    for key, kinds in types.items():
        pattern = re.escape(key).replace("<name>", r"[^.\[\]]+")
        if re.fullmatch(pattern, path):
            return key, False
        if "object" in kinds and re.match(rf"{pattern}[.\[]", path):
            return key, True
    raise AssertionError(f"docs/json.md does not list {path}")


def check(heading: str, printed: list[str]) -> None:
    """Compares what a command printed with its table."""
    types, optional = documented(heading)
    seen = set()
    for line in printed:
        for path, kind in leaves(json.loads(line)):
            key, opaque = key_of(path, types)
            seen.add(key)
            assert opaque or kind in types[key], f"{path} is {kind}"
    assert printed
    assert set() == types.keys() - optional - seen, "documented, but not printed"


@pytest.fixture
def environ(redis_url: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "signers.json").write_text('{"keys": []}')
    return {
        "REDIS_URL": redis_url,
        "HOLDLINE_API_KEYS": "redis",
        "HOLDLINE_JWT_KEYS": str(tmp_path / "signers.json"),
        "OPENAI_API_KEY": "x",
        "HOLDLINE_MODEL": "fast",
    }


class Commands:
    """Runs commands with `--json` and returns the printed lines."""

    def __init__(self, environ: dict[str, str]) -> None:
        self._environ = environ

    async def __call__(self, *argv: str) -> list[str]:
        return [line async for line in lines(self._environ, *argv, "--json")]


@pytest.fixture
def run(environ: dict[str, str]) -> Commands:
    return Commands(environ)


async def test_the_tables_of_keys_and_signers(run: Commands) -> None:
    created = await run("keys", "create", "acme", "--model", "fast", "--prompt", "shop")
    id_ = json.loads(created[0])["id"]
    printed = [*created, *await run("keys", "create", "acme", "--expires", "1d")]
    printed += [*await run("keys", "list"), *await run("keys", "rotate", id_)]
    check("keys", [*printed, *await run("keys", "revoke", id_)])
    printed = [*await run("signers", "add", "a"), *await run("signers", "list")]
    printed += await run("signers", "add", "b", "--tenant", "acme", "--alg", "HS256")
    check("signers", [*printed, *await run("signers", "remove", "a")])


async def test_the_table_of_vapid_keys(environ: dict[str, str], tmp_path: Path) -> None:
    run = Commands(environ | {"HOLDLINE_VAPID_KEYS": str(tmp_path / "vapid.keys")})
    created = await run("vapid", "create")
    printed = [*created, *await run("vapid", "create"), *await run("vapid", "list")]
    check("vapid", [*printed, *await run("vapid", "remove", json.loads(created[0])["id"])])


async def test_the_tables_of_tenants_and_of_the_audit_log(run: Commands) -> None:
    printed = [
        *await run("tenants", "show", "acme"),
        *await run("tenants", "set", "acme", "running=2"),
    ]
    check("tenants", [*printed, *await run("tenants", "clear", "acme")])
    check("audit", await run("audit"))


async def test_the_tables_of_the_state(run: Commands, pipe: Pipe) -> None:
    queue = Queue(pipe, SETTINGS)
    jobs = [a_job("acme/anna") for _ in range(3)]
    for job in jobs:
        await queue.submit(job, opening(job), queue_name="d:fast")
    first, second = await queue.leases.claim(0, new_claim(), 2, worker="w1")
    await queue.leases.retry(second.response_id, second.claim, 1_000, "busy", http_status=429)
    await queue.pause("fast", 30)
    running = RunningRecord(first.response_id, "fast", 1, 2_000, None)
    recent = (RecentAttempts("fast", 4, 1, "upstream_busy"),)
    record = WorkerRecord(
        "web-1", 7, "1.2", 9_000, 4, ("fast",), WorkerState.READY, "", 1, (running,), recent
    )
    await WorkerRegistry(pipe, 60_000).register("worker-id", record)
    check("status", await run("status"))
    check("status RESPONSE_ID", await run("status", second.response_id))
    waiting = next(job.id for job in jobs if job.id not in (first.response_id, second.response_id))
    check("cancel", [*await run("cancel", waiting), *await run("cancel", waiting)])
    await pipe.call("RPUSH", Partition(0).dead, waiting, new_response_id(0), "no id")
    await pipe.call("PEXPIRE", Partition(0).dead, 60_000)
    printed = [*await run("dead", "list"), *await run("dead", "again", waiting)]
    check("dead", [*printed, *await run("dead", "drop", "no id")])
    subscription = Subscription(1, endpoint="https://push.example/a")
    await PushSubscriptions(pipe, SETTINGS.partitions).put("acme/anna", subscription, 60_000)
    printed = [
        *await run("subject", "export", "acme/anna"),
        *await run("subject", "hash", "acme/a"),
    ]
    check("subject", [*printed, *await run("subject", "delete", "acme/anna")])


async def test_the_tables_of_the_checks(environ: dict[str, str], run: Commands) -> None:
    check("check", await run("check"))
    printed = []
    with contextlib.suppress(PromiseBroken):  # by the settings of the test's Redis
        async for line in lines(environ, "doctor", "--program", "server", "--json"):
            printed.append(line)  # noqa: PERF401 - a comprehension would lose the lines
    check("doctor", printed)


def test_each_command_with_json_has_a_table() -> None:
    context = click.Context(holdline)
    headings = {line.split()[0] for line in re.findall(r"^## (.+)$", JSON, re.MULTILINE)}
    for name in holdline.list_commands(context):
        assert name in headings or name in WITHOUT_TABLE, name
