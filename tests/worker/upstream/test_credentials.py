"""Tests expiring API keys: from a file that changes, or from a command that is rerun."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from jobs.config.settings import ConfigError
from jobs.record import Status
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.system import module_command, wait_until
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness, response
from worker.config import load
from worker.upstream import credentials
from worker.upstream.credentials import CommandKey, FileKey, KeyUnavailable


class Source:
    """A command that prints `key`, as JSON if the key expires, and counts its runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.command = (str(folder / "command"),)
        self.tell("true")

    def tell(self, script: str) -> None:
        path = Path(self.command[0])
        new = path.with_suffix(".new")
        new.write_text(f"#!/bin/sh\necho x >> {self._folder}/runs\n{script}\n")
        new.chmod(stat.S_IRWXU)
        new.replace(path)

    def key(self, key: str, seconds: float | None = None) -> None:
        printed = key if seconds is None else json.dumps({"token": key, "expires_in": seconds})
        self.tell(f"printf '%s' '{printed}'")

    def fail(self, errors: str = "") -> None:
        self.tell(f"echo '{errors}' >&2; exit 3")

    @property
    def runs(self) -> int:
        path = self._folder / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


@pytest.fixture
async def credential(source: Source) -> AsyncIterator[CommandKey]:
    credential = CommandKey("m", source.command)
    yield credential
    await credential.close()


async def test_a_hundred_concurrent_jobs_run_the_command_once(
    source: Source, credential: CommandKey
) -> None:
    source.key("sk-1", 3600)
    assert {"sk-1"} == set(await asyncio.gather(*(credential.key() for _ in range(100))))
    assert 1 == source.runs
    source.key("sk-2", 3600)
    renewed = await asyncio.gather(*(credential.renewed("sk-1") for _ in range(100)))
    assert ({"sk-2"}, 2) == (set(renewed), source.runs)
    assert "sk-2" == await credential.renewed("sk-1"), "somebody has renewed it"
    assert 2 == source.runs


async def test_cancelling_a_job_does_not_stop_the_command_for_others(
    source: Source, credential: CommandKey
) -> None:
    source.tell("sleep 0.2; echo sk-1")
    first, second = (asyncio.create_task(credential.key()) for _ in range(2))
    await wait_until(lambda: source.runs)
    first.cancel()
    assert "sk-1" == await second
    assert 1 == source.runs


async def test_a_key_is_renewed_in_the_background_before_it_expires(
    source: Source, credential: CommandKey
) -> None:
    source.key("sk-1", 1.0)
    assert "sk-1" == await credential.key()
    source.key("sk-2", 3600)
    await asyncio.sleep(0.85)  # wait until the key is due for renewal
    began = time.monotonic()
    assert "sk-1" == await credential.key()
    assert time.monotonic() - began < 0.05
    await asyncio.sleep(0.1)  # wait for the command that renews the key
    assert ("sk-2", 2) == (await credential.key(), source.runs)


async def test_a_valid_key_is_used_while_the_command_fails(
    source: Source, credential: CommandKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PAUSE_SECONDS", 60.0)
    source.key("sk-secret-1", 1.2)
    await credential.key()
    source.fail("no network; the token was sk-secret-1, now token=abc")
    await asyncio.sleep(1.0)  # wait until the key is due for renewal
    with capture_logs() as logs:
        for _ in range(10):
            assert "sk-secret-1" == await credential.key()
            await asyncio.sleep(0.01)  # the interval between two jobs
        await asyncio.sleep(0.2)  # wait until the key has expired
        for _ in range(10):
            with pytest.raises(KeyUnavailable, match="status 3"):
                await credential.key()
    [line] = logs
    assert ("failed to get the API key of a model", "m", True) == (
        line["event"],
        line["model"],
        True,
    )
    said = "no network; the token was …, now token=…"
    assert f"api_key_command exited with status 3: {said}" == line["reason"]
    assert 2 == source.runs, "it is left alone for a while"


async def test_the_command_is_not_run_for_each_job_while_its_keys_are_refused(
    source: Source, credential: CommandKey
) -> None:
    source.key("sk-1", 3600)
    await credential.key()
    for _ in range(10):
        assert await credential.renewed("sk-1") is None
    assert 2 == source.runs


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "status 1"),
        ("true", "is empty"),
        ("echo please log in", "single word"),
        ("yes | head -c 100000000", "more than 65536 bytes"),
        ("yes >&2", "more than 65536 bytes"),
        ("kill -9 $$", "status -9"),
    ],
)
async def test_time_and_output_of_a_command_are_bounded(
    source: Source, credential: CommandKey, script: str, reason: str
) -> None:
    source.tell(script)
    with capture_logs() as logs, pytest.raises(KeyUnavailable, match=reason):
        await credential.key()
    [line] = logs
    assert reason in line["reason"]
    _, _, printed = line["reason"].partition(": ")
    assert len(printed) <= credentials.MAX_LOGGED


async def test_a_command_that_times_out_is_killed_with_its_child_processes(
    source: Source, credential: CommandKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "COMMAND_SECONDS", 0.3)
    source.tell(f"sleep 60 & echo $! > {tmp_path}/child; wait")
    began = time.monotonic()
    with pytest.raises(KeyUnavailable, match="longer than"):
        await credential.key()
    assert time.monotonic() - began < 5
    child = int((tmp_path / "child").read_text())
    await wait_until(lambda: not _runs(child), 5)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


async def test_a_missing_program_is_reported_as_missing() -> None:
    with capture_logs() as logs, pytest.raises(KeyUnavailable, match="FileNotFoundError"):
        await CommandKey("m", ("/no/such/program",)).key()
    assert 1 == len(logs)


async def test_a_changed_key_file_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    credential = FileKey("m", str(path))
    with capture_logs() as logs:
        for _ in range(5):
            with pytest.raises(KeyUnavailable, match="FileNotFoundError"):
                await credential.key()
    assert 1 == len(logs)
    path.write_text("sk-1\n")
    assert "sk-1" == await credential.key()
    path.write_text('{"access_token": "sk-2"}')
    assert "sk-1" == await credential.key(), "it was looked at just now"
    assert "sk-2" == await credential.renewed("sk-1")
    assert await credential.renewed("sk-2") is None
    monkeypatch.setattr("runtime.watched_file.LOOK_SECONDS", 0.0)
    path.write_text("sk-3")
    assert "sk-3" == await credential.key()
    path.write_text("no key at all")
    with capture_logs() as logs:
        assert "sk-3" == await credential.key()
    assert "sk" not in str(logs)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KeyUnavailable, match="regular file"):
        await FileKey("m", str(tmp_path / "pipe")).key()


# Keys that a worker uses


@contextlib.asynccontextmanager
async def keyed(
    make_harness: MakeHarness, tmp_path: Path, setting: str
) -> AsyncIterator[tuple[Harness, FakeModel]]:
    path = tmp_path / "models.toml"
    async with FakeModel() as model:
        path.write_text(f'[models.m]\nbase_url = "{model.url}"\n{setting}\n')
        async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
            yield harness, model


@pytest.mark.parametrize("header", ["authorization", "api-key"])
@pytest.mark.parametrize("kind", ["file", "command"])
async def test_a_key_rotated_while_a_worker_runs_fails_no_response(
    make_harness: MakeHarness, tmp_path: Path, source: Source, kind: str, header: str
) -> None:
    path = tmp_path / "key"

    def rotate(key: str) -> None:
        path.write_text(key)
        source.key(key)
        model.key = (header, f"Bearer {key}" if header == "authorization" else key)

    where = f'api_key_file = "{path}"'
    if kind == "command":
        where = f"api_key_command = {json.dumps(source.command)}"
    setting = f'{where}\napi_key_header = "{header}"'
    async with keyed(make_harness, tmp_path, setting) as (harness, model):
        with capture_logs() as logs:
            for number in range(3):
                rotate(f"sk-rotated-{number}")
                ids = [await harness.submit(f"{number} {n}") for n in range(3)]
                works = [harness.execution(await harness.claim()) for _ in ids]
                await asyncio.gather(*(work.run() for work in works))
                for id_ in ids:
                    assert Status.COMPLETED is (await harness.view(id_)).status
                    last = response(await harness.events(id_))
                    assert 1 == last["holdline"]["attempts"]
        if kind == "command":
            assert 3 == source.runs
        bearer = ["authorization" in call.headers for call in model.calls]
        assert [header == "authorization"] * 9 == bearer
    assert "sk-rotated" not in str(logs)


async def test_a_job_is_postponed_without_a_model_call_while_no_key_is_available(
    make_harness: MakeHarness, tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr("worker.upstream.model_errors.PAUSE_SECONDS", 0.05)
    source.fail()
    setting = f"api_key_command = {json.dumps(source.command)}"
    async with keyed(make_harness, tmp_path, setting) as (harness, model):
        view = await harness.execute("hi")
        assert (Status.QUEUED, "upstream_key_unavailable") == (view.status, view.reason)
        source.key("sk-1")
        await harness.execution(await harness.claim()).run()
        assert Status.COMPLETED is (await harness.view(harness.only)).status
        assert 1 == len(model.calls)
        assert "Bearer sk-1" == model.calls[0].headers["authorization"]


async def test_a_key_that_stays_refused_fails_as_an_authentication_error(
    make_harness: MakeHarness, tmp_path: Path, source: Source
) -> None:
    source.key("sk-1")
    setting = f"api_key_command = {json.dumps(source.command)}"
    async with keyed(make_harness, tmp_path, setting) as (harness, model):
        model.key = ("authorization", "Bearer other")
        view = await harness.execute("hi")
        assert Status.FAILED is view.status
        error: dict[str, Any] = response(await harness.events(harness.only))["error"]
        assert "upstream_unauthorized" == error["code"]
        assert (0, 1, 2) == (len(model.calls), model.refused, source.runs)


def test_two_sources_for_one_key_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "models.toml"
    environ = {"HOLDLINE_MODELS": str(path), "K": "sk-secret"}
    for setting, says in [
        ('api_key_env = "K"\napi_key_file = "f"', "api_key_file conflicts with api_key_env"),
        (
            'api_key_file = "f"\napi_key_command = ["c"]',
            "api_key_command conflicts with api_key_fi",
        ),
        ("api_key_command = []", "api_key_command must begin with the name of a program"),
        ('api_key_command = [""]', "api_key_command must begin with the name of a program"),
        ('api_key_command = "gcloud auth"', "api_key_command must be a list of strings"),
        ('api_key_header = "a: b"', "api_key_header must be the name of a header"),
    ]:
        path.write_text(f'[models.m]\nbase_url = "http://h"\n{setting}\n')
        with pytest.raises(ConfigError, match=rf"\[models.m\] {says}"):
            load(environ)
    path.write_text('[models.m]\napi_key_command = ["c", "sk-secret"]\n')
    assert "sk-secret" not in repr(load(environ))


async def test_a_check_loads_the_keys(
    pipe: Pipe, redis_url: str, tmp_path: Path, source: Source
) -> None:
    path = tmp_path / "models.toml"
    path.write_text(
        f'[models.m]\nbase_url = "http://h"\napi_key_command = {json.dumps(source.command)}\n'
    )

    async def checked() -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *module_command("command"),
            *("check", "--program", "worker", "--connect"),
            env={"REDIS_URL": redis_url, "HOLDLINE_MODELS": str(path), "PATH": os.environ["PATH"]},
            cwd=Path(__file__).parents[3],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        return process.returncode, printed.decode()

    source.key("sk-secret-1")
    status, printed = await checked()
    assert (0, True) == (status, "m at http://h, API key read" in printed)
    assert "sk-secret-1" not in printed
    source.fail("log in first, sk-secret-1")
    status, printed = await checked()
    assert (1, True) == (status, "[models.m] api_key_command exited with status 3" in printed)
    assert "sk-secret-1" not in printed
