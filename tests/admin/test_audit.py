"""Tests that every change by an `admin` command is in the audit log, or is not made."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from admin import audited, cli
from admin.audited import Audit, NotAudited
from command.root import holdline
from jobs.audit import AuditLog, Change
from jobs.config.settings import ConfigError
from jobs.errors import RedisAway
from jobs.names import Partition
from jobs.queue import Queue
from jobs.redis.pipe import Pipe
from jobs.tenants import Tenants
from runtime.watched_file import locked
from tests.commands import lines
from tests.jobs.factories import SETTINGS, a_job, opening
from tests.jobs.redis.users import as_user
from tests.system import System, free_port, run_module, wait_until

READING = {
    *("keys list", "signers list", "tenants show", "dead list", "subject hash", "vapid list"),
}
CHANGING = {
    *("keys create", "keys rotate", "keys revoke", "signers add", "signers remove"),
    *("tenants set", "tenants clear", "dead again", "dead drop"),
    *("subject export", "subject delete", "vapid create", "vapid remove"),
}
NO_SIGNERS = '{"keys": []}'


class Operator:
    """Runs `admin` commands on the test's Redis."""

    def __init__(self, pipe: Pipe, environ: dict[str, str]) -> None:
        self._pipe = pipe
        self.environ = environ

    async def run(self, *argv: str) -> list[str]:
        return [line async for line in lines(self.environ, *argv)]

    async def changes(self) -> list[Change]:
        return [each async for each in AuditLog(self._pipe, 1).changes()]


@pytest.fixture
def operator(pipe: Pipe, redis_url: str, tmp_path: Path) -> Operator:
    (tmp_path / "signers.json").write_text(NO_SIGNERS)
    return Operator(
        pipe,
        {
            "REDIS_URL": redis_url,
            "HOLDLINE_API_KEYS": "redis",
            "HOLDLINE_JWT_KEYS": str(tmp_path / "signers.json"),
            "HOLDLINE_OPERATOR": "anna",
        },
    )


async def bury(pipe: Pipe) -> str:
    """Puts a response into the dead list, and returns its id."""
    job = a_job()
    await Queue(pipe, SETTINGS).submit(job, opening(job))
    await pipe.call("RPUSH", Partition(0).dead, job.id)
    await pipe.call("PEXPIRE", Partition(0).dead, 60_000)
    return job.id


def test_every_command_that_changes_something_is_tested_here() -> None:
    context = click.Context(holdline)
    commands = {
        name: holdline.get_command(context, name) for name in holdline.list_commands(context)
    }
    found = {
        f"{name} {action}"
        for name, command in commands.items()
        if isinstance(command, click.Group)
        for action in command.commands
    }
    assert READING | CHANGING == found
    alone = {name for name, command in commands.items() if not isinstance(command, click.Group)}
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert {
        "__init__",
        "arguments",
        "cli",
        "audited",
        "key_file",
        "status_text",
    } == files - commands.keys()
    programs = {"ask", "completion", "demo-model", "probe", "server", "up", "worker"}
    assert programs | {"audit", "cancel", "check", "doctor", "status"} == alone


async def test_every_change_is_recorded_with_its_operator_and_its_result(
    operator: Operator, pipe: Pipe, tmp_path: Path
) -> None:
    written = await operator.run("keys", "create", "acme", "--expires", "90d", "--note", "private")
    id_ = written[0].split("_")[1]
    written += await operator.run("keys", "rotate", id_)
    await operator.run("keys", "revoke", id_)
    written += await operator.run("signers", "add", "shop", "--tenant", "acme", "--alg", "HS256")
    await operator.run("signers", "remove", "shop")
    operator.environ["HOLDLINE_VAPID_KEYS"] = str(tmp_path / "vapid.keys")
    await operator.run("vapid", "create")
    await operator.run("vapid", "create")
    newer, older = [line.split()[0] for line in (await operator.run("vapid", "list"))[:2]]
    await operator.run("vapid", "remove", older)
    await operator.run("tenants", "set", "acme", "running=20", "weight=2")
    await operator.run("tenants", "set", "acme", "running=30", "weight=2")
    await operator.run("tenants", "clear", "acme")
    first, second = await bury(pipe), await bury(pipe)
    [again] = await operator.run("dead", "again", first)
    await operator.run("dead", "drop", second)
    await operator.run("dead", "drop", second)
    await operator.run("subject", "export", "public")
    await operator.run("subject", "delete", "public")

    changes = await operator.changes()
    assert {change.command for change in changes} == CHANGING
    assert {("anna", "done")} == {(change.operator, change.result) for change in changes}
    assert all(change.user and change.host and change.time for change in changes)
    scopes = "acme create,read,cancel"
    found = [(each.command, each.target, each.before, each.after) for each in changes]
    key, signer, tenant = f"key {id_}", "signing key shop", "tenant acme"
    described = found[0][3]
    assert re.fullmatch(rf"{scopes} expires \d{{4}}-\d\d-\d\d", described)
    rotated = "new secret; the old secret stays valid for 24 hours"
    assert [
        ("keys create", key, "", described),
        ("keys rotate", key, described, rotated),
        ("keys revoke", key, described, "no key"),
        ("signers add", signer, "", "HS256  acme"),
        ("signers remove", signer, "HS256  acme", "no key"),
        ("vapid create", f"VAPID key {older}", "", "first key"),
        ("vapid create", f"VAPID key {newer}", "", "first key"),
        ("vapid remove", f"VAPID key {older}", "", "no key"),
        ("tenants set", tenant, "running=default weight=default", "running=20 weight=2.0"),
        ("tenants set", tenant, "running=20", "running=30"),
        ("tenants clear", tenant, "weight=2.0 running=30", "weight=default running=default"),
        ("dead again", first, "", f"submitted as {again.split()[-1]}"),
        ("dead drop", second, "", "dropped"),
        ("dead drop", second, "", "not in the dead list"),
        ("subject export", "end user public", "", "3 exported"),
    ] == found[:-1]
    assert found[-1][3].startswith("3 responses were deleted; 3 of them were unfinished")

    stored = repr(await pipe.call("XRANGE", Partition(0).audit, "-", "+"))
    secrets = re.findall(r"hl_\w+?_(\w+)|\"k\": \"(\S+?)\"", "\n".join(written))
    assert 3 == len(secrets)
    assert not [secret for pair in secrets for secret in pair if secret and secret in stored]


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("keys", ["list"]),
        ("signers", ["list"]),
        ("tenants", ["show", "acme"]),
        ("dead", ["list"]),
        ("subject", ["hash", "acme/anna"]),
    ],
)
async def test_reading_commands_record_nothing(
    operator: Operator, command: str, argv: list[str]
) -> None:
    await operator.run(command, *argv)
    assert [] == await operator.changes()


async def test_a_change_that_fails_is_recorded_with_its_error(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise RedisAway("no connection to Redis")

    monkeypatch.setattr(Tenants, "set", away)
    with pytest.raises(RedisAway):
        await operator.run("tenants", "set", "acme", "running=20")
    [change] = await operator.changes()
    assert ("failed: RedisAway", "running=20") == (change.result, change.after)


async def test_an_invalid_argument_is_refused_before_it_is_recorded(operator: Operator) -> None:
    with pytest.raises(click.BadParameter, match="running must be a number"):
        await operator.run("tenants", "set", "acme", "running=many")
    assert [] == await operator.changes()


# A change is not made if it cannot be recorded.


def test_without_redis_nothing_is_changed_and_the_error_names_the_way_out(tmp_path: Path) -> None:
    signers_file, keys_file = tmp_path / "signers.json", tmp_path / "keys.json"
    environ = {
        "REDIS_URL": f"redis://:secret@127.0.0.1:{free_port()}/0",
        "HOLDLINE_JWT_KEYS": str(signers_file),
        "HOLDLINE_API_KEYS": str(keys_file),
    }
    for module, argv in (("signers", ("add", "shop")), ("keys", ("create", "acme"))):
        ended = run_module("command", module, *argv, **environ)
        assert (1, "") == (ended.returncode, ended.stdout)
        assert "nothing was changed, because the audit log cannot be written" in ended.stderr
        assert (
            "set REDIS_URL to the Redis of your servers, or start `holdline up`, or HOLDLINE_AUDIT"
            in ended.stderr
        )
        assert "secret" not in ended.stderr
    assert not signers_file.exists()
    assert not keys_file.exists()

    ended = run_module("command", "signers", "add", "shop", **environ, HOLDLINE_AUDIT="stderr")
    assert (0, True) == (ended.returncode, signers_file.exists())
    first, last = map(json.loads, ended.stderr.splitlines())
    assert ("signers add", "signing key shop") == (first["command"], first["target"])
    assert (first["change"], "done") == (last["change"], last["result"])
    assert json.loads(ended.stdout.splitlines()[0])["d"] not in ended.stderr


@pytest.mark.parametrize(
    ("command", "argv"),
    [
        ("keys", ["create", "acme"]),
        ("signers", ["add", "shop"]),
        ("tenants", ["set", "acme", "running=2"]),
        ("dead", ["drop", "x"]),
        ("subject", ["delete", "public"]),
        ("subject", ["export", "public"]),
    ],
)
async def test_a_redis_user_who_may_not_write_the_audit_log_changes_nothing(
    operator: Operator, pipe: Pipe, redis_url: str, command: str, argv: list[str]
) -> None:
    await pipe.call("ACL", "SETUSER", "blind", "on", ">pass", "+@all", "~*", "&*", "-xadd")
    operator.environ["REDIS_URL"] = as_user(redis_url, "blind:pass")
    try:
        with pytest.raises(NotAudited, match=r"audit log cannot be written: .*permission"):
            await operator.run(command, *argv)
    finally:
        await pipe.call("ACL", "DELUSER", "blind")
    assert 0 == await pipe.call("DBSIZE")
    assert NO_SIGNERS == Path(operator.environ["HOLDLINE_JWT_KEYS"]).read_text()


async def test_a_command_that_is_killed_leaves_a_change_without_a_result(
    system: System, pipe: Pipe, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    environ = {"REDIS_URL": system.redis_url, "HOLDLINE_API_KEYS": str(file)}
    system.environ |= environ
    with locked(file):  # the command waits for the lock after it has recorded the change
        process = await asyncio.create_subprocess_exec(
            *system.command("keys", "create", "acme"), env=system.environ
        )
        await wait_until(lambda: pipe.call("EXISTS", Partition(0).audit))
        process.kill()
        await process.wait()
    assert not file.exists()
    [line, total] = [each async for each in lines(environ, "audit")]
    assert re.search(r"  keys create  key \w{12}  -> acme create,read,cancel  no result$", line)
    assert "1 change" == total


async def test_a_key_is_shown_even_if_its_result_cannot_be_recorded(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    append = AuditLog.append

    async def half(log: AuditLog, entry: Mapping[str, str]) -> None:
        if "result" in entry:
            raise RedisAway("no connection to Redis")
        await append(log, entry)

    monkeypatch.setattr(AuditLog, "append", half)
    [shown] = await operator.run("keys", "create", "acme")
    assert shown.startswith("hl_")
    assert "keys create: the audit log lacks the result: no conn" in capsys.readouterr().err


async def test_a_cancelled_change_is_recorded(operator: Operator) -> None:
    begun = asyncio.Event()

    async def change() -> None:
        async with Audit.from_environ(operator.environ).change("keys create", "key a"):
            begun.set()
            await asyncio.sleep(3600)  # until the task is cancelled

    task = asyncio.create_task(change())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ["failed: CancelledError"] == [each.result for each in await operator.changes()]


# The command that lists the log


async def listed(operator: Operator, *argv: str) -> list[str]:
    return await operator.run("audit", *argv)


async def test_changes_are_listed_by_time_and_target(operator: Operator, pipe: Pipe) -> None:
    key, old = Partition(0).audit, ("change", "old", "command", "keys revoke", "user", "u")
    await pipe.call("XADD", key, "86400000-1", *old, "host", "h", "target", "key 1")
    await pipe.call("XADD", key, "86400500-1", "change", "old", "result", "done")
    assert ["1970-01-02 00:00:00  u@h  keys revoke  key 1  done", "1 change"] == await listed(
        operator
    )
    await pipe.call("DEL", key)
    await operator.run("tenants", "set", "acme", "running=2")
    await operator.run("tenants", "set", "other", "running=2")
    line, total = await listed(operator, "--target", "acme")
    assert "1 change" == total
    account = rf"{re.escape(audited._user())}@\S+"
    assert re.fullmatch(
        rf"\S+ \S+  anna \({account}\)  tenants set  tenant acme  running=default -> running=2  "
        "done",
        line,
    )
    assert "2 changes" == (await listed(operator, "--since", "1m"))[-1]
    await asyncio.sleep(0.01)  # the changes must be older than 1 ms
    assert ["0 changes"] == await listed(operator, "--since", "0.001s")


async def test_json_has_one_line_for_each_change(operator: Operator) -> None:
    await operator.run("tenants", "set", "acme", "running=2")
    [line] = await listed(operator, "--json")
    found: dict[str, Any] = json.loads(line)
    assert set(Change.__struct_fields__) == set(found)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found["time"])


async def test_control_characters_are_escaped_on_the_terminal(operator: Operator) -> None:
    await operator.run("dead", "drop", "a\x1b[2J\nforged")
    line, _ = await listed(operator)
    assert r"a\x1b[2J\nforged" in line


async def test_json_escapes_the_control_characters_that_json_allows(operator: Operator) -> None:
    await operator.run("dead", "drop", "é\x9b2J\x7f\u202e")
    [line] = await listed(operator, "--json")
    assert line.isprintable()
    assert r"é\u009b2J\u007f\u202e" in line
    assert "é\x9b2J\x7f\u202e" in json.loads(line)["target"]


async def test_both_places_get_the_same_change(
    operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    operator.environ["HOLDLINE_AUDIT"] = "both"
    await operator.run("tenants", "set", "acme", "running=2")
    first, last = map(json.loads, capsys.readouterr().err.splitlines())
    [change] = await operator.changes()
    assert (change.target, change.result) == (first["target"], last["result"])


async def test_an_unknown_place_is_refused(operator: Operator) -> None:
    operator.environ["HOLDLINE_AUDIT"] = "nowhere"
    with pytest.raises(ConfigError, match="HOLDLINE_AUDIT must be redis or stderr or both"):
        await operator.run("tenants", "set", "acme", "running=2")


@pytest.mark.parametrize("argv", [["--since", "x"], ["--since", "5000d"], ["--since", ""]])
async def test_an_invalid_duration_is_refused(operator: Operator, argv: list[str]) -> None:
    with pytest.raises(click.UsageError, match="a duration must be"):
        await listed(operator, *argv)
