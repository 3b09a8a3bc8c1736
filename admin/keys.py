"""Manages the API keys of services, in the file or the Redis that HOLDLINE_API_KEYS names."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import click
import msgspec

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.config.settings import ConfigError
from jobs.errors import HoldlineError
from jobs.names import Partition
from jobs.record_store import RecordStore
from jobs.redis.url import redis_from_url
from runtime import command_line
from runtime.watched_file import replace
from server.access import api_keys
from server.access.principal import OF_A_TOKEN, SCOPES

from . import cli
from .arguments import SCOPE_LIST, SECONDS, TENANT, UNITS, text
from .audited import Audit
from .cli import Output
from .key_file import locked_key_file, read_key_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from server.access.api_keys import Record

SETTING: Final = "HOLDLINE_API_KEYS"
HELP: Final = """\
Manages the API keys of services.

HOLDLINE_API_KEYS says where the keys are: `redis`, or the path of a file. Give it to the servers
too. Without it, a server asks for no key.

examples:
  export HOLDLINE_API_KEYS=redis
  holdline keys create acme                    create a key for the tenant acme, and show it once
  holdline keys list
  holdline keys rotate ID --keep 1h            replace the secret; the old one works for an hour
  holdline keys revoke ID                      servers reject the key within seconds\
"""
CREATE_HELP: Final = """\
Creates a key and shows it once; Holdline stores only its hash.

TENANT, to which the key belongs, has 1 to 64 letters, digits and _ . -

examples:
  holdline keys create acme
  holdline keys create acme --expires 90d --model gpt-4.1-mini --note "the shop"
  KEY=$(holdline keys create acme --json | jq -r .key)\
"""
LIST_HELP: Final = """\
Lists all keys with their tenants, scopes and expiry.

examples:
  holdline keys list
  holdline keys list --json | jq -r 'select(.tenant == "acme").id'\
"""
ROTATE_HELP: Final = """\
Replaces the secret of a key, and shows the new key once. The old secret stays valid for a while.

examples:
  holdline keys rotate ID                      give the service the new key within a day
  holdline keys rotate ID --keep 0s            reject the old secret at once\
"""
REVOKE_HELP: Final = """\
Revokes a key. Servers reject it within seconds.

examples:
  holdline keys revoke ID\
"""
# The name of a model or of a prompt template.
_NAME: Final = text(1, 256)
_DEFAULT_SCOPES: Final = ",".join(scope for scope in SCOPES if scope in OF_A_TOKEN)


class Store(Protocol):
    """The storage of API key records."""

    async def all(self) -> dict[str, bytes]:
        """Returns all records, by key id."""

    async def put(self, id_: str, before: bytes | None, after: bytes | None) -> None:
        """Replaces the record `before` of a key with `after`; None stands for no record."""


class FileStore:
    """Stores API keys in a file, which only its owner can read and which is replaced atomically."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def all(self) -> dict[str, bytes]:
        """Returns all records by key id, or an empty dict if there is no file yet."""
        return {id_: api_keys.encode(record) for id_, record in self._read().items()}

    async def put(self, id_: str, before: bytes | None, after: bytes | None) -> None:
        """Rewrites the file and replaces, adds or removes the record of one key."""
        with locked_key_file(SETTING, self._path):
            records = self._read()
            found = records.pop(id_, None)
            if (None if found is None else api_keys.encode(found)) != before:
                raise HoldlineError(f"another process has changed the key {id_}; try again")
            if after is not None:
                records[id_] = api_keys.decode(after)
            replace(self._path, api_keys.format_file(records))

    def _read(self) -> dict[str, Record]:
        return read_key_file(SETTING, self._path, api_keys.parse_file) or {}


@contextlib.asynccontextmanager
async def store(environ: Mapping[str, str]) -> AsyncIterator[Store]:
    """Opens the file or the Redis that HOLDLINE_API_KEYS names.

    Raises: ConfigError.
    """
    env.check_names(environ)
    place = env.text(environ, SETTING)
    if not place:
        raise ConfigError(
            "HOLDLINE_API_KEYS is not set: set it as for the servers, for example with\n"
            "  export HOLDLINE_API_KEYS=redis    or to the path of the key file"
        )
    if place != "redis":
        yield FileStore(Path(place))
        return
    async with redis_from_url(shared_config.redis_url(environ)).pipe(deadline=4) as pipe:
        yield RecordStore(pipe, Partition(0).api_keys)


@click.group(cls=command_line.Group, help=HELP)
def keys() -> None:
    """The group of the commands for API keys."""


@keys.command("create", help=CREATE_HELP)
@click.argument("tenant", type=TENANT)
@click.option(
    "--scopes",
    type=SCOPE_LIST,
    default=_DEFAULT_SCOPES,
    show_default=True,
    help=f"scopes of the key, from {','.join(SCOPES)}",
)
@click.option("--model", type=_NAME, multiple=True, help="a model that the key may use; repeatable")
@click.option(
    "--prompt", type=_NAME, multiple=True, help="a prompt template that it may use; repeatable"
)
@click.option(
    "--expires", type=SECONDS, help="time until the key expires, such as 90d (default: never)"
)
@click.option(
    "--note", type=text(0, 256), default="", help="a note about the key, which `list` shows"
)
@cli.prints
async def create(
    environ: Mapping[str, str],
    *,
    tenant: str,
    scopes: list[str],
    model: tuple[str, ...],
    prompt: tuple[str, ...],
    expires: float | None,
    note: str,
) -> AsyncIterator[Output]:
    """Creates an API key, and shows it once."""
    id_, now = api_keys.new_id(), time.time()
    written, secret = api_keys.new_key(id_)
    record = msgspec.convert(
        {
            "id": id_,
            "tenant": tenant,
            "scopes": scopes,
            "secrets": [msgspec.to_builtins(secret)],
            "models": list(model) or None,
            "prompts": list(prompt) or None,
            "created_at": round(now),
            "expires_at": None if expires is None else round(now + expires),
            "note": note,
        },
        api_keys.Record,
    )
    audit = Audit.from_environ(environ)
    change = audit.change("keys create", f"key {id_}", after=_short(record))
    async with store(environ) as stored, change:
        await stored.put(id_, None, api_keys.encode(record))
    yield Output(_shown_once(written), {"key": written, **_as_dict(record, now)})


@keys.command("list", help=LIST_HELP)
@cli.prints
async def list_all(environ: Mapping[str, str]) -> AsyncIterator[Output]:
    """Lists all keys, sorted by tenant."""
    async with store(environ) as stored:
        found = [api_keys.decode(record) for record in (await stored.all()).values()]
    now = time.time()
    for record in sorted(found, key=lambda record: (record.tenant, record.id)):
        yield Output(_line(record, now), _as_dict(record, now))
    yield cli.total(len(found), "key")


@keys.command("rotate", help=ROTATE_HELP)
@click.argument("id_", metavar="ID")
@click.option(
    "--keep",
    type=SECONDS,
    default="1d",
    show_default=True,
    help="how long the old secret stays valid",
)
@cli.prints
async def rotate(environ: Mapping[str, str], *, id_: str, keep: float) -> AsyncIterator[Output]:
    """Replaces the secret of a key, and shows the new key once."""
    audit = Audit.from_environ(environ)
    async with store(environ) as stored:
        before = await _found(stored, id_)
        written, secret = api_keys.new_key(id_)
        record, now = api_keys.decode(before), time.time()
        after = api_keys.rotated(record, secret, round(now), keep)
        changed = f"new secret; the old secret stays valid for {keep / 3600:g} hours"
        async with audit.change("keys rotate", f"key {id_}", before=_short(record), after=changed):
            await stored.put(id_, before, api_keys.encode(after))
    yield Output(
        f"{_shown_once(written)}\nThe old secret stays valid for {keep / 3600:g} hours.",
        {"key": written, **_as_dict(after, now)},
    )


@keys.command("revoke", help=REVOKE_HELP)
@click.argument("id_", metavar="ID")
@cli.prints
async def revoke(environ: Mapping[str, str], *, id_: str) -> AsyncIterator[Output]:
    """Removes an API key."""
    audit = Audit.from_environ(environ)
    async with store(environ) as stored:
        before = await _found(stored, id_)
        was = _short(api_keys.decode(before))
        async with audit.change("keys revoke", f"key {id_}", before=was, after="no key"):
            await stored.put(id_, before, None)
    yield Output(f"{id_} was revoked", {"id": id_, "revoked": True})


async def _found(store: Store, id_: str) -> bytes:
    found = (await store.all()).get(id_)
    if found is None:
        raise HoldlineError(f"API key {id_} not found; `holdline keys list` lists all keys")
    return found


def _shown_once(written: str) -> str:
    return f"{written}\nSave the key now. It cannot be shown again."


def _grants(record: Record) -> list[str]:
    """Returns the tenant of a key and what the key allows, in words for the terminal."""
    parts = [record.tenant, ",".join(record.scopes) or "(no scope)"]
    for name, allowed in (("models", record.models), ("prompts", record.prompts)):
        if allowed is not None:
            parts.append(f"{name}={','.join(allowed)}")
    return parts


def _short(record: Record) -> str:
    """Describes a key in the audit log."""
    ends = record.expires_at
    expiry = [] if ends is None else [f"expires {datetime.fromtimestamp(ends, UTC):%Y-%m-%d}"]
    return " ".join([*_grants(record), *expiry])


def _as_dict(record: Record, now: float) -> dict[str, Any]:
    """Returns the object for `--json`, which contains no secret."""
    shown = msgspec.structs.asdict(record)
    del shown["secrets"]
    return {**shown, "valid_secrets": _valid_secrets(record, now)}


def _valid_secrets(record: Record, now: float) -> int:
    return sum(secret.until is None or secret.until > now for secret in record.secrets)


def _line(record: Record, now: float) -> str:
    parts = [record.id, *_grants(record)]
    if record.expires_at is not None:
        left = record.expires_at - now
        parts.append("expired" if left <= 0 else f"expires in {_duration(left)}")
    if _valid_secrets(record, now) > 1:
        parts.append("two valid secrets")
    return "  ".join([*parts, record.note] if record.note else parts)


def _duration(seconds: float) -> str:
    for unit, length in reversed(UNITS.items()):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return "0s"
