"""Tests the command `holdline doctor`: its checks, its output and its exit status."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from admin.doctor import report
from admin.doctor.command import PromiseBroken
from admin.doctor.findings import Check, Context, Finding, Level, broken, ok, warning
from admin.doctor.report import CHECKS, as_text, examine
from command.up.redis import embedded_redis
from jobs.redis.pipe import Pipe
from tests import commands
from tests.commands import lines
from tests.fake_model import FakeModel
from tests.jobs.redis.users import as_user
from tests.paths.documents import ROOT, SECURE, section
from tests.system import CODE, System, clean_environ, module_command

PROMISES = set(re.findall(r"^### (G\d+):", (ROOT / "docs/promises.md").read_text(), re.MULTILINE))


@pytest.mark.timeout(120)
async def test_an_installation_without_a_fault_breaks_no_promise(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--maxmemory", "100mb")
    async with (
        embedded_redis(None, *options) as url,
        FakeModel() as model,
        System(url, tmp_path) as system,
    ):
        await system.worker(model.url)
        environ = system.environ | {"OPENAI_BASE_URL": model.url}
        [line] = [line async for line in lines(environ, "doctor", "--json")]
        found = json.loads(line)
        levels = {each["level"] for each in found["findings"]}
        assert (True, 0) == (found["ok"], found["counts"]["broken"]), found
        assert {"ok", "warning"} == levels
        assert len(found["findings"]) == sum(found["counts"].values())
        subjects = {each["subject"] for each in found["findings"]}
        # Without API keys and tokens, there is nothing to check about them.
        none = {"keys: services", "keys: tokens", "keys: models"}
        assert {check.subject for check in CHECKS} - none == subjects
        assert [] == model.calls  # no prompt was sent


def test_a_broken_promise_has_the_exit_status_1_and_no_secret_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {
        "REDIS_URL": "redis://canary:canary@127.0.0.1:1/0?password=canary",
        "OPENAI_API_KEY": "canary",
        "OPENAI_BASE_URL": "http://canary:canary@127.0.0.1:1/v1?key=canary",
        "HOLDLINE_JWT_KEYS": str(ROOT / "pyproject.toml"),
        "HOLDLINE_MODEL": "m",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert 1 == commands.run("doctor")
    shown = capsys.readouterr()
    assert "holdline doctor: a promise does not hold; findings that are broken: 3\n" == shown.err
    assert 3 == len(re.findall("^broken ", shown.out, re.MULTILINE))
    assert "canary" not in shown.out


async def test_a_check_that_hangs_or_fails_does_not_stop_the_others() -> None:
    async def hangs(_: Context) -> AsyncIterator[Finding]:
        yield ok("before the pause")
        await asyncio.sleep(3600)  # until the time limit of the check

    async def fails(_: Context) -> AsyncIterator[Finding]:
        yield ok("before the error")
        raise RuntimeError("canary")

    async def works(_: Context) -> AsyncIterator[Finding]:
        yield warning("seen", "why", "command")

    checks = (Check("a", hangs, seconds=0.05), Check("b", fails), Check("c", works))
    context, begun = Context({}), list[str]()
    found = [each async for each in examine(context, begun.append, checks)]
    assert ["a", "b", "c"] == begun
    levels = [(subject, str(finding.level)) for subject, finding in found]
    expected = [("a", "ok"), ("a", "unknown"), ("b", "ok"), ("b", "unknown"), ("c", "warning")]
    assert expected == levels
    assert "the check took longer than 0.05 s" == found[1][1].seen
    assert "RuntimeError at fails:" in found[3][1].seen
    assert "canary" not in found[3][1].seen


async def test_warnings_alone_do_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    async def risk(_: Context) -> AsyncIterator[Finding]:
        yield warning("a risk", "why", "do this")

    async def fault(_: Context) -> AsyncIterator[Finding]:
        yield broken("a fault\x1b[2J", "why", "do that", "G1")

    def found(*checks: Check) -> AsyncIterator[str]:
        monkeypatch.setattr(report.examine, "__defaults__", (checks,))
        return lines({}, "doctor")

    shown = [line async for line in found(Check("x", risk))]
    assert "1 findings: 0 ok, 1 warning, 0 broken, 0 unknown" == shown[-1]
    shown = []
    with pytest.raises(PromiseBroken, match="findings that are broken: 1"):
        async for line in found(Check("x", risk), Check("y", fault)):
            shown.append(line)
    assert "2 findings: 0 ok, 1 warning, 1 broken, 0 unknown" == shown[-1]
    assert r"a fault\x1b[2J" in shown[1]


def test_a_finding_says_why_it_matters_and_what_to_type() -> None:
    text = as_text("redis", broken("seen", "because", "do this", "G1")).splitlines()
    assert "broken   redis                 seen" == text[0]
    assert ["why: because (G1)", "do:  do this"] == [line.strip() for line in text[1:]]
    assert "ok       redis                 fine" == as_text("redis", ok("fine"))


def test_every_promise_that_a_check_names_exists() -> None:
    named = set()
    for path in (CODE / "admin/doctor").glob("*.py"):
        named |= set(re.findall(r'"(G\d+)"', path.read_text()))
    assert named
    assert named <= PROMISES


async def test_the_documented_permissions_suffice_for_every_check(
    pipe: Pipe, redis_url: str
) -> None:
    names = re.findall(r"`([a-z|]+)`", section(SECURE, "Access to Redis"))
    rules = ("~holdline:*", "&holdline:*", "-@all", *(f"+{name}" for name in names))
    await pipe.call("ACL", "SETUSER", "limited", "reset", "on", ">pass", *rules)
    await pipe.call("ACL", "LOG", "RESET")
    environ = {"REDIS_URL": as_user(redis_url, "limited:pass"), "HOLDLINE_API_KEYS": "redis"}
    try:
        context = Context(environ)
        checks = tuple(check for check in CHECKS if check.subject != "models")
        found = [each async for each in examine(context, lambda _: None, checks)]
        assert [] == await pipe.call("ACL", "LOG")
    finally:
        await pipe.call("ACL", "DELUSER", "limited")
    assert [] == [each for each in found if each[1].level is Level.UNKNOWN]


async def test_a_terminal_shows_the_progress(redis_url: str) -> None:
    terminal, line = pty.openpty()
    environ = clean_environ() | {"REDIS_URL": redis_url}
    try:
        process = await asyncio.create_subprocess_exec(
            *(*module_command("command"), "doctor", "--program", "server"),
            cwd=ROOT,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=line,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 50)
    finally:
        os.close(line)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert "checking redis: latency ..." in shown
    assert "checking" not in output.decode()
