"""Tests that the doctor finds a Redis that cannot be reached or used, and missing permissions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from admin.doctor import redis_server
from admin.doctor.findings import Context, Finding, Level
from admin.doctor.report import CHECKS, examine
from jobs.names import Partition
from jobs.redis.permissions import ADMIN, CLUSTER, NEEDED, SENTINEL, denied
from jobs.redis.pipe import Pipe
from jobs.redis.url import redis_from_url
from tests.admin.doctor.single_check import FINE, assert_actionable, finding_of, findings_of
from tests.jobs.proxy import Proxy
from tests.jobs.redis.users import as_user
from tests.system import free_port

BROKEN, WARNING, OK, UNKNOWN = Level.BROKEN, Level.WARNING, Level.OK, Level.UNKNOWN


async def of_redis(environ: dict[str, str]) -> list[Finding]:
    """Returns the findings of all checks whose subject is Redis."""
    checks = tuple(check for check in CHECKS if check.subject.startswith("redis"))
    context = Context(FINE | environ)
    return [finding async for _, finding in examine(context, lambda _: None, checks)]


async def test_a_fine_redis_is_described(redis_url: str) -> None:
    finding, *_ = await of_redis({"REDIS_URL": redis_url})
    assert OK is finding.level
    assert f"{redis_url}: " in finding.seen


async def test_an_unreachable_redis_stops_no_other_check() -> None:
    url = f"redis://:canary@127.0.0.1:{free_port()}/0"
    first, *rest = await of_redis({"REDIS_URL": url})
    assert_actionable(first, BROKEN, "cannot be used: no connection to Redis")
    assert {UNKNOWN, OK} == {finding.level for finding in rest}
    assert "canary" not in f"{first}{rest}"


async def test_a_redis_that_hangs_times_out_after_a_few_seconds(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("admin.doctor.report.REDIS_SECONDS", 0.5)
    async with Proxy(redis_url) as proxy:
        proxy.stop_forwarding()
        first, *_ = await of_redis({"REDIS_URL": proxy.url})
    assert_actionable(first, BROKEN, "cannot be used")


async def test_a_wrong_password_is_named(pipe: Pipe, redis_url: str) -> None:
    await pipe.call("ACL", "SETUSER", "someone", "on", ">right", "+@all", "~*")
    try:
        first, *_ = await of_redis({"REDIS_URL": as_user(redis_url, "someone:canary")})
    finally:
        await pipe.call("ACL", "DELUSER", "someone")
    assert_actionable(first, BROKEN, "WRONGPASS")
    assert "canary" not in f"{first}"


async def test_an_eviction_policy_is_named_with_its_command(pipe: Pipe, redis_url: str) -> None:
    await pipe.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        first, *_ = await of_redis({"REDIS_URL": redis_url})
    finally:
        await pipe.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert_actionable(first, BROKEN, "maxmemory-policy is allkeys-lru")
    assert "redis-cli CONFIG SET maxmemory-policy noeviction" == first.command


async def test_another_encryption_key_is_named(pipe: Pipe, redis_url: str) -> None:
    await pipe.call("SET", Partition(0).cipher, "5ac01f37", "PX", 60_000)
    first, *_ = await of_redis({"REDIS_URL": redis_url})
    assert_actionable(first, BROKEN, "encrypted with the key 5ac01f37")


@pytest.fixture
async def half(pipe: Pipe, redis_url: str) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Returns a function that creates a Redis user with the given rules, and returns its URL."""

    async def create(*rules: str) -> str:
        await pipe.call("ACL", "SETUSER", "half", "reset", "on", ">pass", *rules)
        return as_user(redis_url, "half:pass")

    yield create
    await pipe.call("ACL", "DELUSER", "half")


OURS = ("~holdline:*", "&holdline:*")


@pytest.mark.parametrize(
    ("missing", "level"),
    [("hget", BROKEN), ("ssubscribe", BROKEN), ("xadd", BROKEN), ("scan", WARNING)],
)
async def test_a_missing_permission_is_found_without_running_the_command(
    half: Callable[..., Awaitable[str]], pipe: Pipe, missing: str, level: Level
) -> None:
    url = await half("+@all", f"-{missing}", *OURS)
    await pipe.call("ACL", "LOG", "RESET")
    finding = (await findings_of(redis_server.permissions, {"REDIS_URL": url}))[-1]
    assert_actionable(finding, level, f"may not run {missing}")
    assert f"'+{missing}'" in finding.command
    assert [] == await pipe.call("ACL", "LOG")


@pytest.mark.parametrize(
    "rules", [("+@all", "-evalsha", *OURS), ("+@all", "~other:*", "&holdline:*")]
)
async def test_a_user_who_may_not_run_scripts_on_our_keys_breaks_a_promise(
    half: Callable[..., Awaitable[str]], rules: tuple[str, ...]
) -> None:
    finding = await finding_of(redis_server.permissions, {"REDIS_URL": await half(*rules)})
    assert_actionable(finding, BROKEN, "the Redis user may not run scripts")


async def test_every_listed_command_exists_and_is_checked(
    half: Callable[..., Awaitable[str]], pipe: Pipe
) -> None:
    names = (*NEEDED, *ADMIN, *SENTINEL, *CLUSTER)
    assert [] == await denied(pipe, names)
    url = await half("-@all", "+evalsha", "+eval", "+script|load", *OURS)
    async with redis_from_url(url).pipe() as own:
        assert set(names) - {"evalsha", "eval", "script|load"} == set(await denied(own, names))


async def test_settings_that_may_not_be_read_are_unknown(pipe: Pipe, redis_url: str) -> None:
    rules = ("+@all", "-config", "~*", "&*")
    await pipe.call("ACL", "SETUSER", "managed", "on", ">pass", *rules)
    url = as_user(redis_url, "managed:pass")
    try:
        found = await of_redis({"REDIS_URL": url})
    finally:
        await pipe.call("ACL", "DELUSER", "managed")
    [finding] = [each for each in found if each.level is UNKNOWN]
    assert_actionable(finding, UNKNOWN, "may not run CONFIG GET")


async def test_messages_that_do_not_arrive_break_a_promise(
    pipe: Pipe, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"REDIS_URL": redis_url, "HOLDLINE_PARTITIONS": "3"}
    assert OK is (await finding_of(redis_server.notifications, environ)).level
    monkeypatch.setattr(redis_server, "DELIVERY_SECONDS", 0.5)
    await pipe.call("ACL", "SETUSER", "deaf", "on", ">pass", "+@all", "-ssubscribe", "~*", "&*")
    url = as_user(redis_url, "deaf:pass")
    try:
        finding = await finding_of(redis_server.notifications, environ | {"REDIS_URL": url})
    finally:
        await pipe.call("ACL", "DELUSER", "deaf")
    assert_actionable(finding, BROKEN, "delivered no message within 0.5 s")
