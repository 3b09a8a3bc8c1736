"""Fills the placeholders of a target file: ports, folders and the model's address."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from torture.errors import StartError
from torture.redaction import Redactor
from torture.target import PLACEHOLDER

# The system assigns higher ports to outgoing connections, so one of those could be taken before a
# process listens on it.
FIRST_PORT: Final = 20_000
PORTS: Final = 10_000


@dataclass
class Placeholders:
    """The values of the placeholders in one run.

    Attributes:
        folder: the folder of the run, which is removed after it.
        target: the folder of the target file.
        install: the folder in which the target is installed, which is kept.
        ports: the ports by their names, or by process and instance.
        redactor: replaces the values of the used environment variables, which can be keys.
    """

    folder: Path
    target: Path
    install: Path
    parameters: Mapping[str, str]
    model_url: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    redactor: Redactor = field(default_factory=Redactor)

    def port(self, name: str) -> int:
        """Returns the port with a name, which is chosen on its first use."""
        if name not in self.ports:
            self.ports[name] = free_port()
        return self.ports[name]

    def fill(self, text: str, process: str = "", instance: int = 1) -> str:
        """Replaces the placeholders in a value of one instance of a process.

        Raises:
            StartError: an environment variable is not set.
        """

        def value(name: str, argument: str) -> str:
            if name == "parameter":
                return self.parameters[argument]
            if name == "env":
                if argument not in os.environ:
                    raise StartError(f"the environment variable {argument} is not set")
                self.redactor.add(os.environ[argument])
                return os.environ[argument]
            if name == "port":
                return str(self.port(argument or f"{process}#{instance}"))
            plain = {
                "model_url": self.model_url,
                "model_root": self.model_url.removesuffix("/v1"),
                "folder": str(self.folder),
                "target": str(self.target),
                "install": str(self.install),
                "python": sys.executable,
                "instance": str(instance),
            }
            return plain[name]

        return PLACEHOLDER.sub(lambda found: value(found[1], found[2] or ""), text)


def free_port() -> int:
    """Returns a free port of the loopback interface."""
    while True:
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
