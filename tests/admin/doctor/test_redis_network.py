"""Tests that the doctor finds connections to Redis that are slow, limited, closed or readable."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from admin.doctor import redis_network
from admin.doctor.findings import Context, Finding, Level
from jobs.redis.pipe import Pipe
from jobs.redis.url import redis_from_url
from tests.admin.doctor.single_check import assert_actionable, finding_of, findings_of

WARNING, OK = Level.WARNING, Level.OK


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("client-output-buffer-limit", "pubsub 0 0 0", "of pubsub is 0, which is no limit"),
        ("client-output-buffer-limit", "pubsub 65536 0 0", "of pubsub is 65536 bytes"),
        ("timeout", "5", "timeout is 5 s"),
        ("tcp-keepalive", "0", "tcp-keepalive is off"),
    ],
)
async def test_settings_that_close_connections_are_risks(
    pipe: Pipe, redis_url: str, name: str, value: str, seen: str
) -> None:
    assert OK is (await finding_of(redis_network.limits, {"REDIS_URL": redis_url})).level
    _, before = await pipe.call("CONFIG", "GET", name)
    await pipe.call("CONFIG", "SET", name, value)
    try:
        [finding] = await findings_of(redis_network.limits, {"REDIS_URL": redis_url})
    finally:
        await pipe.call("CONFIG", "SET", name, before)
    assert_actionable(finding, WARNING, seen)


async def test_the_connections_are_compared_with_maxclients(pipe: Pipe, redis_url: str) -> None:
    environ = {"REDIS_URL": redis_url, "HOLDLINE_PROCESSES": "8"}
    finding = await finding_of(redis_network.clients, environ)
    assert (OK, True) == (finding.level, "of 10000 possible connections" in finding.seen)
    await pipe.call("CONFIG", "SET", "maxclients", 40)
    try:
        finding = await finding_of(redis_network.clients, environ)
        assert_actionable(finding, Level.BROKEN, "start processes with 48 connections")
        await pipe.call("CONFIG", "SET", "maxclients", 6)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                other = await stack.enter_async_context(redis_from_url(redis_url).pipe())
                await other.call("PING")
            finding = await finding_of(redis_network.clients, {"REDIS_URL": redis_url})
        assert_actionable(finding, WARNING, "6 of 6 possible connections are open")
    finally:
        await pipe.call("CONFIG", "SET", "maxclients", 10_000)


@pytest.mark.parametrize(("slow_ms", "level"), [(60_000.0, OK), (0.0, WARNING)])
async def test_slow_round_trips_are_a_risk(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, slow_ms: float, level: Level
) -> None:
    monkeypatch.setattr(redis_network, "SLOW_MS", slow_ms)
    finding = await finding_of(redis_network.latency, {"REDIS_URL": redis_url})
    assert (level, True) == (finding.level, finding.seen.startswith("a round trip takes "))
    assert (level is OK) == (not finding.command)


@pytest.mark.parametrize(
    ("url", "level", "seen"),
    [
        ("redis://127.0.0.1:6379/0", OK, "stay on this machine"),
        ("redis://[::1]:6379/0", OK, "stay on this machine"),
        ("unix:///tmp/redis.sock", OK, "stay on this machine"),
        ("rediss://:secret@redis.example:6379/0", OK, "use TLS"),
        ("rediss+cluster://redis.example:6379", OK, "use TLS"),
        ("redis://:secret@redis.example:6379/0", WARNING, "do not use TLS"),
        ("redis+sentinel://127.0.0.1:1,redis.example:2/m", WARNING, "do not use TLS"),
    ],
)
async def test_unencrypted_connections_to_other_machines_are_a_risk(
    url: str, level: Level, seen: str
) -> None:
    findings: AsyncIterator[Finding] = redis_network.encryption(Context({"REDIS_URL": url}))
    [finding] = [each async for each in findings]
    assert (level, True) == (finding.level, seen in finding.seen)
    assert "secret" not in f"{finding}"
