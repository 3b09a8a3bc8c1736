"""Tests `holdline probe`, the health check of a container."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from command.probe import first_program, probe
from runtime.command_line import INVALID_SETTINGS
from tests.jobs.proxy import Proxy
from tests.system import System, free_port, run_module, wait_until


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (b"/opt/holdline/bin/python\0/opt/holdline/bin/holdline\0server\0", "server"),
        (b"/sbin/docker-init\0--\0holdline\0worker\0--processes\0002\0", "worker"),
        (b"holdline\0doctor\0--program\0worker\0", ""),
        (b"/sbin/init\0", ""),
        (b"holdline\0", ""),
        (b"\xff\0", ""),
        (b"", ""),
    ],
)
def test_the_first_process_names_the_program(arguments: bytes, program: str) -> None:
    assert program == first_program(arguments)


@pytest.mark.parametrize("program", ["server", "worker"])
async def test_a_program_is_ready_only_while_redis_answers(
    system: System, redis_url: str, program: str
) -> None:
    async with Proxy(redis_url) as proxy:
        system.environ["REDIS_URL"] = proxy.url
        if program == "server":
            # Without keys, the server refuses requests whose Host is not a loopback name.
            server = await system.server()
            environ = {"HOLDLINE_PORT": server.url.rpartition(":")[2]}
        else:
            environ = {"HOLDLINE_WORKER_PORT": str(free_port())}
            await system.worker("http://127.0.0.1:9/v1", **environ)

        async def asked(*, live: bool = False) -> str:
            return await asyncio.to_thread(probe, program, environ, live=live)

        await wait_until(lambda: _is_ready(asked))
        done = await asyncio.to_thread(run_module, "command", "probe", program, **environ)
        assert (0, "", "") == (done.returncode, done.stdout, done.stderr)

        proxy.stop_forwarding()
        assert " answered 503: {" in await wait_until(asked)
        assert "" == await asked(live=True)
        done = await asyncio.to_thread(run_module, "command", "probe", program, **environ)
        assert (1, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
        assert done.stderr.startswith(f"{program}: 127.0.0.1:")
        proxy.forward_again()


async def _is_ready(asked: Callable[[], Awaitable[str]]) -> bool:
    return await asked() == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "127.0.0.1", "::1"])
def test_a_port_on_which_nothing_listens_is_not_ready(host: str) -> None:
    port = str(free_port())
    reason = probe("server", {"HOLDLINE_HOST": host, "HOLDLINE_PORT": port}, live=False)
    loopback = "::1" if ":" in host else "127.0.0.1"
    assert reason.startswith(f"{loopback}:{port}: ")


def test_a_worker_without_a_port_cannot_be_asked() -> None:
    done = run_module("command", "probe", "worker")
    assert INVALID_SETTINGS == done.returncode
    assert "worker: set HOLDLINE_WORKER_PORT to the port of the worker\n" == done.stderr


def test_outside_of_a_container_the_program_must_be_named() -> None:
    done = run_module("command", "probe")
    assert 2 == done.returncode
    assert "name the program" in done.stderr


def test_an_invalid_setting_is_named() -> None:
    done = run_module("command", "probe", "server", HOLDLINE_PORT="http")
    assert INVALID_SETTINGS == done.returncode
    assert "server: HOLDLINE_PORT must be a number, not 'http'\n" == done.stderr
