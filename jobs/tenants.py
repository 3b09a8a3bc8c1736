"""Reads and changes the settings of tenants at run time: their weight and their limits.

A tenant's settings are stored in each partition of Redis, where the Lua scripts read them. If a
tenant does not have a setting, the default of the process applies. `docs/tenants.md` describes all
settings of a tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from runtime.number import parse_number

from .errors import HoldlineError
from .names import Partition
from .nearest import suggestion
from .redis.unexpected_reply import decoding
from .scripts import calls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .record import SharedSettings
    from .redis.pipe import Pipe


DAY: Final = 86_400


class WrongSetting(HoldlineError):
    """A setting of a tenant has an unknown name or an invalid value."""


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a tenant, with its bounds and its description, `what`."""

    least: float
    most: float
    whole: bool
    what: str


FIELDS: Final[dict[str, Field]] = {
    "weight": Field(0.01, 100, False, "share of the queue, relative to other tenants"),
    "sockets": Field(
        0, 1_000_000, True, "maximum number of WebSockets per server process; 0 means no limit"
    ),
    "running": Field(0, 1_000_000, True, "maximum number of running responses; 0 means no limit"),
    "waiting": Field(0, 1_000_000, True, "maximum number of waiting prompts; 0 means no limit"),
    "waiting_bytes": Field(0, 1e12, True, "maximum bytes of unfinished prompts; 0 means no limit"),
    "requests_per_minute": Field(
        0, 1_000_000, True, "maximum number of prompts per minute; 0 means no limit"
    ),
    "tokens_per_day": Field(
        0, 1e12, True, "maximum number of tokens per day (UTC); 0 means no limit"
    ),
    "money_per_day": Field(
        0, 1e9, False, "maximum cost of responses per day (UTC); 0 means no limit"
    ),
    "input_tokens": Field(
        0, 1e9, True, "maximum estimated input tokens of one prompt; 0 means no limit"
    ),
    "subject_running": Field(
        0,
        1_000_000,
        True,
        "maximum number of unfinished responses of each end user; 0 means no limit",
    ),
    "subject_requests_per_minute": Field(
        0,
        1_000_000,
        True,
        "maximum number of prompts per minute of each end user; 0 means no limit",
    ),
    "subject_tokens_per_day": Field(
        0, 1e12, True, "maximum tokens per day (UTC) of each end user; 0 means no limit"
    ),
    "subject_money_per_day": Field(
        0, 1e9, False, "maximum cost per day (UTC) of each end user; 0 means no limit"
    ),
}


@dataclass(frozen=True, slots=True)
class TenantUsage:
    """A tenant's number of running responses, and the tokens and money that it has used today.

    `held` is True if further jobs of the tenant wait until one of its running responses ends.
    """

    running: int
    held: bool
    tokens: int
    money: float


class Tenants:
    """Reads and changes the settings of tenants in Redis. All methods raise RedisTrouble."""

    def __init__(self, pipe: Pipe, partitions: range) -> None:
        self._pipe = pipe
        self._partitions = [Partition(number) for number in partitions]

    async def get(self, tenant: str) -> dict[str, str]:
        """Returns the settings of a tenant, by name."""
        flat = await self._pipe.call("HGETALL", self._partitions[0].tenant(tenant))
        return _pairs(flat)

    async def set(self, tenant: str, values: Mapping[str, str]) -> dict[str, str]:
        """Changes settings of a tenant, and returns all settings of the tenant.

        The value "" removes a setting, so its default applies again.

        Raises: WrongSetting.
        """
        wanted = {name: checked(name, value) for name, value in values.items()}
        flat = [part for pair in wanted.items() for part in pair]
        found = {}
        for names in self._partitions:
            call = calls.set_tenant(
                tenant_key=names.tenant(tenant), prefix=names.prefix, tenant=tenant, settings=flat
            )
            found = _pairs(await self._pipe.run(call))
        return found

    async def clear(self, tenant: str) -> None:
        """Removes all settings of a tenant, so the defaults apply again."""
        await self.set(tenant, dict.fromkeys(FIELDS, ""))

    async def usage(self, tenant: str) -> TenantUsage:
        """Returns the sum of a tenant's usage over all partitions."""
        running, held, tokens, money = 0, False, 0, 0.0
        with decoding("the usage of a tenant"):
            now = int((await self._pipe.call("TIME"))[0])
            for names in self._partitions:
                used = names.used(tenant, now // DAY)
                found = await self._pipe.call("HMGET", used, "tokens", "money")
                tokens, money = tokens + int(found[0] or 0), money + float(found[1] or 0) / 1e6
                running += await self._pipe.call("ZCARD", names.running(tenant))
                held = held or bool(await self._pipe.call("EXISTS", names.held(tenant)))
        return TenantUsage(running, held, tokens, money)


def defaults(shared: SharedSettings) -> dict[str, float]:
    """Returns the limits of a tenant for which none are set."""
    return {"weight": 1, **shared.of_tenants}


def numbers(values: Mapping[str, str]) -> dict[str, float]:
    """Converts settings of a tenant to numbers, and drops settings with unknown names."""
    return {
        name: int(value) if FIELDS[name].whole else float(value)
        for name, value in values.items()
        if name in FIELDS
    }


def checked(name: str, value: str) -> str:
    """Checks the value of a tenant's setting, and returns it in the form that Redis stores.

    Raises: WrongSetting.
    """
    field = FIELDS.get(name)
    if field is None:
        raise WrongSetting(f"{name} is not a limit of a tenant; {suggestion(name, FIELDS)}")
    if value == "":
        return ""
    try:
        number = parse_number(value)
    except ValueError:
        raise WrongSetting(f"{name} must be a number, not {value!r}") from None
    if not field.least <= number <= field.most:
        raise WrongSetting(
            f"{name} must be between {field.least:.15g} and {field.most:.15g}, not {value}"
        )
    if field.whole and number != int(number):
        raise WrongSetting(f"{name} must be a whole number, not {value}")
    return str(int(number)) if field.whole else repr(number)


def _pairs(flat: list[bytes]) -> dict[str, str]:
    with decoding("the settings of a tenant"):
        return {
            name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)
        }
