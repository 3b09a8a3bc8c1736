from __future__ import annotations

import asyncio
import subprocess
from functools import partial
from pathlib import Path

import pytest

from jobs.config.settings import ConfigError
from runtime.command_line import INVALID_SETTINGS
from tests.fake_model import FakeModel
from tests.system import ROOT, module_command
from worker.config import load

MODEL = {"OPENAI_API_KEY": "sk-secret"}


def test_the_defaults() -> None:
    config = load(MODEL)
    assert ("redis://127.0.0.1:6379/0", None, 100, 20.0) == (
        config.redis_url,
        config.routes(None)[0].base_url,
        config.concurrency,
        config.grace,
    )
    assert (15_000, 3) == (config.shared.lease_ms, config.shared.max_attempts)


def test_settings_of_the_server_are_accepted() -> None:
    assert load(MODEL) == load({**MODEL, "HOLDLINE_HOST": "0.0.0.0", "HOLDLINE_PORT": "80"})


def test_a_missing_model_is_reported_with_the_settings_to_change() -> None:
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY.*OPENAI_BASE_URL"):
        load({})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("HOLDLINE_CONCURENCY", "7", "HOLDLINE_CONCURRENCY"),
        ("HOLDLINE_CONCURRENCY", "0", "between 1 and 1000"),
        ("HOLDLINE_CONCURRENCY", "many", "number"),
        ("HOLDLINE_SHUTDOWN_GRACE_SECONDS", "-1", "between"),
        ("HOLDLINE_ON_WORKER_DEATH", "shrug", "continue or restart or fail"),
        ("OPENAI_BASE_URL", "localhost:8000", "http://"),
        ("REDIS_URL", "localhost", "redis://"),
    ],
)
def test_an_invalid_setting_is_named_in_the_error(name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        load({**MODEL, name: value})
    assert says in str(caught.value)


def test_a_key_is_not_shown() -> None:
    url = {"REDIS_URL": "redis://:hush@localhost", "OPENAI_BASE_URL": "http://hush@localhost"}
    shown = repr(load({**MODEL, **url}))
    assert "sk-secret" not in shown
    assert "hush" not in shown


def checked(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*module_command("command"), "check", "--program", "worker", *arguments],
        cwd=ROOT,
        env={**MODEL, **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_check_prints_its_findings(redis_url: str) -> None:
    done = checked("--connect", REDIS_URL=redis_url, OPENAI_BASE_URL="http://me:hush@localhost/v1")
    assert 0 == done.returncode, done.stderr
    assert "Valkey" in done.stdout or "Redis 7" in done.stdout
    assert "hush" not in done.stdout
    assert "sk-secret" not in done.stdout


def test_a_check_fails_without_redis() -> None:
    done = checked("--connect", REDIS_URL="redis://:hush@127.0.0.1:9/0")
    assert 1 == done.returncode
    assert "worker: " in done.stderr
    assert "hush" not in done.stderr


def test_a_check_fails_on_a_wrong_name() -> None:
    done = checked(HOLDLINE_CONCURENCY="7")
    assert (INVALID_SETTINGS, "holdline check: worker: HOLDLINE_CONCURENCY is not a setting") == (
        done.returncode,
        done.stderr.partition(";")[0],
    )


async def test_a_check_calls_each_model_if_requested(
    redis_url: str, tmp_path: Path, model: FakeModel
) -> None:
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    table = '[models.{}]\nbase_url = "{}"\napi_key_env = "OPENAI_API_KEY"\n'
    good.write_text(table.format("one", model.url) + table.format("two", model.url))
    # No server listens on port 9.
    bad.write_text(table.format("one", model.url) + table.format("down", "http://127.0.0.1:9/v1"))

    async def asked(models: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        environ = {"REDIS_URL": redis_url, "HOLDLINE_MODELS": str(models)}
        return await asyncio.to_thread(partial(checked, *arguments, **environ))

    done = await asked(good)
    assert (0, []) == (done.returncode, model.calls), done.stderr
    done = await asked(good, "--ask-models")
    assert (0, 2) == (done.returncode, len(model.calls)), done.stderr
    assert "one answered after" in done.stdout
    done = await asked(bad, "--ask-models")
    assert 1 == done.returncode
    assert "down failed: upstream_unavailable" in done.stderr
    assert "sk-secret" not in done.stdout + done.stderr
