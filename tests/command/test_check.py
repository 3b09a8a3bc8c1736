"""Tests `holdline check`: what it reads, what it reaches and how it reports a wrong setting."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.config.settings import ConfigError
from jobs.main import ServiceUnavailable
from tests.commands import lines
from tests.system import free_port

# No Redis listens there: without --connect, the check must not need one.
AWAY = f"redis://127.0.0.1:{free_port()}/0"
ENVIRON = {"REDIS_URL": AWAY, "OPENAI_API_KEY": "canary"}


async def checked(environ: dict[str, str], *arguments: str) -> tuple[list[str], str]:
    """Returns the lines of the check, and its error or ""."""
    found = []
    try:
        async for line in lines(environ, "check", *arguments):
            found.append(line)  # noqa: PERF401 - the lines before the error count
    except (ConfigError, ServiceUnavailable) as error:
        return found, str(error)
    return found, ""


async def test_valid_settings_are_reported_for_both_programs_without_a_connection() -> None:
    found, error = await checked(ENVIRON)
    assert "" == error
    assert {"server  the settings are valid", "worker  the settings are valid"} <= set(found)
    assert "canary" not in str(found)


async def test_with_connect_an_unreachable_redis_is_an_error_that_is_reported_once() -> None:
    found, error = await checked(ENVIRON, "--connect")
    assert error.startswith("server and worker: REDIS_URL=")
    assert 1 == len(error.splitlines())
    assert "server  the check failed" in found


async def test_all_programs_are_checked_and_each_problem_names_its_setting() -> None:
    environ = ENVIRON | {"HOLDLINE_PORT": "http", "HOLDLINE_CONCURRENCY": "0"}
    _, error = await checked(environ)
    [server, worker] = error.splitlines()
    assert server.startswith("server: HOLDLINE_PORT must be a number")
    assert worker.startswith("worker: HOLDLINE_CONCURRENCY must be between")
    assert "HOLDLINE_CONCURRENCY" not in (await checked(environ, "--program", "server"))[1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("HOLDLINE_MODELS", "[models.a]\nbase_url = 7\n", "[models.a]"),
        ("HOLDLINE_MODELS", "[models.a\n", "line 1"),
        ("HOLDLINE_API_KEYS", "{", "HOLDLINE_API_KEYS"),
        ("HOLDLINE_JWT_KEYS", "{}", "HOLDLINE_JWT_KEYS"),
        ("HOLDLINE_ENCRYPTION_KEYS", "short\n", "HOLDLINE_ENCRYPTION_KEYS"),
    ],
)
async def test_a_wrong_file_is_named_with_the_place_of_the_mistake(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    _, error = await checked(ENVIRON | {name: str(file)})
    assert said in error
    assert str(file) in error


async def test_a_command_that_prints_a_key_runs_only_with_connect(tmp_path: Path) -> None:
    ran, models = tmp_path / "ran", tmp_path / "models.toml"
    models.write_text(
        f'[models.a]\nbase_url = "http://127.0.0.1:1/v1"\napi_key_command = ["touch", "{ran}"]\n'
    )
    environ = ENVIRON | {"HOLDLINE_MODELS": str(models)}
    await checked(environ)
    assert not ran.exists()
    await checked(environ, "--connect", "--program", "worker")
    assert ran.exists()


async def test_the_json_has_one_object_for_each_program() -> None:
    found, error = await checked(ENVIRON | {"HOLDLINE_PORT": "http"}, "--json")
    server, worker = map(json.loads, found)
    assert ("server", False, error) == (
        server["program"],
        server["valid"],
        f"server: {server['problem']}",
    )
    assert ("worker", True, None) == (worker["program"], worker["valid"], worker["problem"])
