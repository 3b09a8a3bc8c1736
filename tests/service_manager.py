"""A service manager such as systemd, to which a process reports its state."""

from __future__ import annotations

import socket


class Manager:
    """The notification socket of a service manager."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self.received: list[str] = []

    def read(self) -> list[str]:
        """Returns all notifications so far."""
        while True:
            try:
                self.received.append(self._socket.recv(1024).decode())
            except BlockingIOError:
                return self.received

    def close(self) -> None:
        self._socket.close()
