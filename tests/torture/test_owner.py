"""Tests that the process behind a connection is found, so that a case kills the right one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from torture.owner import group_of_port

CHILD = """
import socket, subprocess, sys, time
if sys.argv[2:]:
    subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]]).wait()
else:
    kept = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    time.sleep(60)  # keeps the connection until the test ends the process
"""


@pytest.mark.parametrize("arguments", [[], [CHILD]], ids=["itself", "its child"])
def test_the_group_of_the_process_with_a_connection_is_found(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        argv = [sys.executable, "-c", CHILD, port, *arguments]
        with subprocess.Popen(argv, start_new_session=True) as process:
            try:
                connection, address = server.accept()
                assert process.pid == group_of_port(address[1])
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                connection.close()


def test_a_port_without_a_connection_has_no_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert group_of_port(port) is None
