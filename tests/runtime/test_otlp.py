"""Tests that a collector of traces cannot fill the memory of a process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runtime.otlp import MAX_REPLY_BYTES, CollectorSession

HEAD = b"HTTP/1.1 200 OK\r\n"
Reply = Callable[[socket.socket], None]


class Server:
    """Accepts connections, and answers each request with `reply`."""

    def __init__(self, listener: socket.socket, reply: Reply) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
        self.connections = 0
        self._listener = listener
        self._reply = reply

    def run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                connection.settimeout(10)
                with connection, suppress(OSError):
                    while connection.recv(65_536):
                        self._reply(connection)


@contextmanager
def serving(reply: Reply) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(listener, reply)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


def test_an_endless_reply_is_not_read() -> None:
    sent = 0

    def reply(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(HEAD + b"Connection: close\r\n\r\n")
        while sent < 1 << 26:
            sent += connection.send(bytes(65_536))

    with serving(reply) as server, CollectorSession() as session:
        assert 200 == session.post(server.url, data=b"spans", timeout=5).status_code
    assert sent < 1 << 26, "the client has closed the connection"


def test_a_reply_that_announces_too_much_is_not_read() -> None:
    def reply(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (MAX_REPLY_BYTES + 1))

    with serving(reply) as server, CollectorSession() as session:
        assert 200 == session.post(server.url, data=b"spans", timeout=5).status_code


def test_a_connection_is_reused_after_a_short_reply() -> None:
    def reply(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 2\r\n\r\nok")

    with serving(reply) as server, CollectorSession() as session:
        for _ in range(3):
            assert 200 == session.post(server.url, data=b"spans", timeout=5).status_code
        assert 1 == server.connections
