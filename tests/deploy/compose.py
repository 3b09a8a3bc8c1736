"""Reads `deploy/compose.yaml` as Compose does, with the values of `deploy/.env.example`."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from tests.system import ROOT

DEPLOY: Final = ROOT / "deploy"
TEXT: Final = (DEPLOY / "compose.yaml").read_text()
EXAMPLE: Final = dict(
    line.split("=", 1)
    for line in (DEPLOY / ".env.example").read_text().splitlines()
    if line and not line.startswith("#")
)
_VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
# The names of all values that compose.yaml takes from deploy/.env.
VARIABLES: Final = {found[1] for found in _VARIABLE.finditer(TEXT)}


class MissingValue(Exception):
    """A value that has no default is empty. The argument is the message in compose.yaml."""


def compose(**values: str) -> dict[str, Any]:
    """Returns the file with the given values, and otherwise those of `.env.example`.

    Raises: MissingValue.
    """

    def value(found: re.Match[str]) -> str:
        given = (EXAMPLE | values)[found[1]]
        if not given and found[2] == "?":
            raise MissingValue(found[3])
        return given or found[3] or ""

    def filled(part: Any) -> Any:
        match part:
            case str():
                return _VARIABLE.sub(value, part)
            case list():
                return [filled(each) for each in part]
            case dict():
                return {name: filled(each) for name, each in part.items()}
            case _:
                return part

    loaded: dict[str, Any] = filled(yaml.safe_load(TEXT))
    return loaded


PASSWORDS: Final = {"VALKEY_PASSWORD": "dc6a5f04", "GRAFANA_PASSWORD": "4b1e"}
SERVICES: Final[dict[str, dict[str, Any]]] = compose(**PASSWORDS)["services"]
# The services of our own image.
OURS: Final = {
    name: service for name, service in SERVICES.items() if service["image"].startswith("holdline")
}


def seconds(text: str) -> int:
    """Converts a duration such as `40s` to seconds."""
    found = re.fullmatch(r"(\d+)(s|m)", text)
    assert found, text
    return int(found[1]) * {"s": 1, "m": 60}[found[2]]
