"""The types of the commands' arguments and options, which refuse a wrong value as wrong usage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from jobs.errors import HoldlineError
from jobs.nearest import suggestion
from jobs.tenants import checked
from runtime.number import parse_number
from server.access.owners import PUBLIC, is_tenant, owner_of
from server.access.principal import SCOPES

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

DAY: Final = 86_400.0
UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}
# The value that restores the default of a tenant's limit.
DEFAULT: Final = "default"


class Parsed(click.ParamType[T]):
    """The type of an argument that a function parses, which raises ValueError or HoldlineError."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        try:
            return self._parse(value)
        except (ValueError, HoldlineError) as error:
            self.fail(str(error), param, ctx)


def _seconds(written: str) -> float:
    try:
        found = parse_number(written[:-1]) * UNITS[written[-1:]]
    except (ValueError, KeyError):
        raise ValueError(
            "a duration must be a number followed by s, m, h or d, such as 90d"
        ) from None
    if not 0 <= found <= 3650 * DAY:
        raise ValueError("a duration must be between 0s and 3650d")
    return found


def _tenant(written: str) -> str:
    if not is_tenant(written):
        raise ValueError("a tenant must be 1 to 64 letters, digits and _ . -")
    return written


def owner(written: str) -> str:
    """Returns the owner that a command-line argument names.

    Raises: ValueError.
    """
    if written == PUBLIC:
        return PUBLIC
    tenant, slash, subject = written.partition("/")
    if not slash:
        raise ValueError(
            f"{written} does not have the form TENANT/SUBJECT or, for a tenant's services, TENANT/"
        )
    return owner_of(tenant, subject or None)


def _limit(written: str) -> tuple[str, str]:
    name, equals, value = written.partition("=")
    if not equals or not value:
        raise ValueError(f"{written!r} does not have the form NAME=VALUE")
    return name, checked(name, "" if value == DEFAULT else value)


def each_once(
    context: click.Context, param: click.Parameter, values: tuple[tuple[str, str], ...]
) -> dict[str, str]:
    """Returns the assignments by name. Used as the `callback` of an argument.

    Raises: click.BadParameter if a name is given twice.
    """
    found: dict[str, str] = {}
    for name, value in values:
        if name in found:
            raise click.BadParameter(f"{name} is given twice", context, param)
        found[name] = value
    return found


def _scopes(written: str) -> list[str]:
    found = written.split(",")
    for scope in found:
        if scope not in SCOPES:
            raise ValueError(f"{scope!r} is not a scope; {suggestion(scope, SCOPES)}")
    return found


def text(least: int, most: int) -> Parsed[str]:
    """Returns the type of a text with `least` to `most` characters."""

    def parse(written: str) -> str:
        if not least <= len(written) <= most:
            raise ValueError(f"the text must have {least} to {most} characters, not {len(written)}")
        return written

    return Parsed("text", parse)


# A duration such as `90d`, in seconds.
SECONDS: Final = Parsed("duration", _seconds)
TENANT: Final = Parsed("tenant", _tenant)
# An end user, the services of a tenant, or `public`, as an owner string.
OWNER: Final = Parsed("owner", owner)
# The name and the stored value of a tenant's limit, written NAME=VALUE.
LIMIT: Final = Parsed("limit", _limit)
SCOPE_LIST: Final = Parsed("scopes", _scopes)
