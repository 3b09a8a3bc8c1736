"""Tests that a program ends during its start if it is the first process of a container."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.deploy.installation import first_child, no_namespaces
from tests.system import ROOT, clean_environ, module_command, wait_until


def handles_sigterm(pid: int) -> bool:
    """Returns True if the process has a handler for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(bool(no_namespaces()), reason=no_namespaces() or "never")
@pytest.mark.parametrize("program", ["server", "worker"])
async def test_a_program_that_is_stopped_during_its_start_ends_at_once(program: str) -> None:
    """Its Redis accepts the connection and says nothing, so the start takes seconds."""
    with socket.create_server(("127.0.0.1", 0)) as redis:
        environ = clean_environ() | {
            "REDIS_URL": f"redis://127.0.0.1:{redis.getsockname()[1]}/0",
            "OPENAI_API_KEY": "test",
        }
        command = [*module_command("command"), program]
        process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--kill-child", *command], cwd=ROOT, env=environ
        )
        try:

            def started() -> int:
                assert process.poll() is None
                pid = first_child(process.pid)
                return pid if pid and handles_sigterm(pid) else 0

            pid = await wait_until(started, 30)
            os.kill(pid, signal.SIGTERM)
            await wait_until(lambda: process.poll() is not None, 10)
            assert process.returncode in (0, 128 + signal.SIGTERM)
        finally:
            process.kill()
            process.wait()
