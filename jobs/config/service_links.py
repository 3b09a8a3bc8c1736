"""Recognizes the environment variables that Kubernetes and Docker set for other services.

For a Kubernetes Service `holdline` at 10.0.0.1:8080, each pod of its namespace gets:

    HOLDLINE_SERVICE_HOST=10.0.0.1       HOLDLINE_PORT=tcp://10.0.0.1:8080
    HOLDLINE_SERVICE_PORT=8080           HOLDLINE_PORT_8080_TCP=tcp://10.0.0.1:8080
    HOLDLINE_SERVICE_PORT_HTTP=8080      HOLDLINE_PORT_8080_TCP_PROTO=tcp
                                         HOLDLINE_PORT_8080_TCP_PORT=8080
                                         HOLDLINE_PORT_8080_TCP_ADDR=10.0.0.1

The Service `holdline-worker` sets the same names with the prefix HOLDLINE_WORKER, so
HOLDLINE_WORKER_PORT has the name of a setting too. A link of Docker sets the right column, and
HOLDLINE_NAME and HOLDLINE_ENV_PATH.

A variable such as HOLDLINE_PORT_8080_TCP is unmistakable: its name repeats what its value says. So
only its prefix is a service, and HOLDLINE_SERVICE_PORT alone is still a wrong name of a setting.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ADDRESS: Final = re.compile(r"(?P<protocol>tcp|udp|sctp)://[^/\s]+:(?P<port>\d+)")
_ADDRESS_NAME: Final = re.compile(r"(?P<service>\w+?)_PORT_(?P<port>\d+)_(?P<protocol>[A-Z]+)")
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"SERVICE_(HOST|PORT(_\w+)?)",
        r"PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|ADDR|PORT|START|END|PORT_START|PORT_END))?",
        r"NAME|ENV_\w+",
    )
)


def is_service_address(value: str) -> bool:
    """Returns True if a value is the address of a service, such as `tcp://10.0.0.1:8080`."""
    return _ADDRESS.fullmatch(value.strip()) is not None


def service_links(environ: Mapping[str, str]) -> frozenset[str]:
    """Returns the names of the variables that Kubernetes or Docker has set for services.

    A variable that the user has set to another value than an address, such as HOLDLINE_PORT=8080,
    is not among them.
    """
    services = set(_services(environ))
    return frozenset(
        name
        for name, value in environ.items()
        if (name.endswith("_PORT") and is_service_address(value))
        or any(
            name.startswith(f"{service}_")
            and any(pattern.fullmatch(name, len(service) + 1) for pattern in _PATTERNS)
            for service in services
        )
    )


def _services(environ: Mapping[str, str]) -> Iterator[str]:
    """Returns the prefixes of the services that have an unmistakable variable."""
    for name, value in environ.items():
        named, address = _ADDRESS_NAME.fullmatch(name), _ADDRESS.fullmatch(value.strip())
        if (
            named
            and address
            and (named["port"], named["protocol"]) == (address["port"], address["protocol"].upper())
        ):
            yield named["service"]
