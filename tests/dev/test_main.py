"""Tests the messages and exit statuses of `python -m dev`."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from command.up.embedded import prepared
from command.up.external_redis import without_secrets
from command.up.run import CannotStartError, address
from jobs.config.settings import ConfigError
from runtime.command_line import FAILED


def run_dev(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m dev` with only PATH and `environ` in its environment."""
    return subprocess.run(
        [sys.executable, "-m", "dev", *arguments],
        env={"PATH": os.environ["PATH"], **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=9,
    )


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_help_lists_the_settings() -> None:
    done = run_dev("--help")

    assert 0 == done.returncode
    for name in ("HOLDLINE_PORT", "HOLDLINE_DATA_DIR", "REDIS_URL", "OPENAI_BASE_URL"):
        assert name in done.stdout


def test_a_port_in_use_is_reported_with_a_way_to_choose_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        done = run_dev(HOLDLINE_PORT=str(port))

    assert FAILED == done.returncode
    assert f"port {port} on 127.0.0.1 is in use; choose another with `HOLDLINE_PORT=" in done.stderr
    assert " make run`" in done.stderr


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1"])
def test_an_invalid_port_is_rejected(port: str) -> None:
    with pytest.raises(
        ConfigError, match=f"HOLDLINE_PORT must be a number between 1 and 65535, not {port}"
    ):
        address({"HOLDLINE_PORT": port}, "make run")


def test_a_host_of_another_machine_is_rejected() -> None:
    with pytest.raises(CannotStartError, match="cannot listen on HOLDLINE_HOST="):
        address({"HOLDLINE_HOST": "192.0.2.1"}, "make run")


def test_a_second_instance_on_the_same_data_folder_is_rejected(
    tmp_path: Path, free_port: int
) -> None:
    with prepared(Path("any"), tmp_path):
        done = run_dev(HOLDLINE_DATA_DIR=str(tmp_path), HOLDLINE_PORT=str(free_port))

    assert FAILED == done.returncode
    assert f"holdline: {tmp_path} is in use by another Holdline" in done.stderr


def test_an_unusable_data_folder_is_reported(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"

    done = run_dev(HOLDLINE_DATA_DIR=str(folder), HOLDLINE_PORT=str(free_port))

    assert FAILED == done.returncode
    assert f"holdline: {folder} cannot be used" in done.stderr


def test_an_unreachable_redis_url_is_reported_without_its_password(free_port: int) -> None:
    url = f"redis://:secret@127.0.0.1:{free_port}/0"

    done = run_dev(REDIS_URL=url, HOLDLINE_PORT=str(free_port))

    assert FAILED == done.returncode
    assert f"REDIS_URL=redis://***@127.0.0.1:{free_port}/0 cannot be used" in done.stderr
    assert "unset REDIS_URL" in done.stderr
    assert "secret" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
        ("rediss://user:p@ss@cache:1/2", "rediss://***@cache:1/2"),
        ("unix:///run/redis.sock?password=secret", "unix:///run/redis.sock"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert shown == without_secrets(url)
