"""Tests that `holdline tenants` changes a tenant's settings at run time."""

from __future__ import annotations

import asyncio
import json

import pytest

from jobs.redis.pipe import Pipe
from jobs.tenants import Tenants, WrongSetting, checked
from tests import commands
from tests.commands import Run


@pytest.fixture
def run(redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("REDIS_URL", redis_url)
    return commands.runner("tenants", capsys)


async def test_tenant_settings_are_shown_until_cleared(run: Run, pipe: Pipe) -> None:
    code, shown = await asyncio.to_thread(run, "set", "acme", "weight=2", "running=20")
    assert (0, ["weight", "2.0"]) == (code, shown.split()[:2])
    assert "0 responses are running\n" in shown
    assert {"weight": "2.0", "running": "20"} == await Tenants(pipe, range(1)).get("acme")
    _, shown = await asyncio.to_thread(run, "clear", "acme")
    assert ["weight", "1", "default"] == shown.split()[:3]
    assert {} == await Tenants(pipe, range(1)).get("acme")


def test_a_limit_that_is_not_set_is_shown_with_its_default(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOLDLINE_TENANT_RUNNING", "12")
    monkeypatch.setenv("HOLDLINE_TENANT_MONEY_PER_DAY", "2.5")
    _, shown = run("show", "acme")
    rows = {words[0]: words[1:3] for words in map(str.split, shown.splitlines())}
    assert ["12", "default"] == rows["running"]
    assert ["2.5", "default"] == rows["money_per_day"]
    assert ["0", "default"] == rows["waiting"]
    found = json.loads(run("show", "acme", "--json")[1])
    assert (None, 12) == (found["limits"]["running"], found["defaults"]["running"])
    assert found["limits"].keys() == found["defaults"].keys()


def test_the_files_of_a_server_are_not_needed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDLINE_API_KEYS", "/missing/keys.json")
    assert 0 == run("show", "acme")[0]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("weight=0", "weight must be between 0.01 and 100, not 0"),
        ("waiting=-1", "waiting must be between 0 and 1000000, not -1"),
        ("weight=nan", "weight must be a number, not 'nan'"),
        ("running=1.5", "running must be a whole number, not 1.5"),
        ("running=many", "running must be a number, not 'many'"),
        ("colour=red", "colour is not a limit of a tenant; known names: weight, sockets"),
        ("runing=20", "runing is not a limit of a tenant; did you mean running; see holdline"),
        ("running", "'running' does not have the form NAME=VALUE"),
    ],
)
async def test_invalid_tenant_settings_are_refused(
    run: Run, pipe: Pipe, written: str, said: str
) -> None:
    code, shown = await asyncio.to_thread(run, "set", "acme", written)
    assert 2 == code
    assert said in shown
    assert 1 == len(shown.splitlines())
    assert {} == await Tenants(pipe, range(1)).get("acme")


def test_an_unreachable_redis_is_named_without_its_password(
    run: Run, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{unused_tcp_port}/0")
    code, shown = run("show", "acme")
    assert 1 == code
    assert f"no connection to Redis at redis://…@127.0.0.1:{unused_tcp_port}/0;" in shown
    assert "or start `holdline up`" in shown
    assert "secret" not in shown


async def test_tenant_settings_are_stored_in_every_partition(pipe: Pipe) -> None:
    await Tenants(pipe, range(3)).set("acme", {"running": "7"})
    for number in range(3):
        assert b"7" == await pipe.call("HGET", f"holdline:{{{number}}}:tenant:acme", "running")


def test_an_empty_value_restores_the_default() -> None:
    assert "" == checked("running", "")
    with pytest.raises(WrongSetting):
        checked("colour", "")
