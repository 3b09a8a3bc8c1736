"""Manages the API keys of services, in the file or the Redis that HOLDLINE_API_KEYS names.

create TENANT   create a key and print it once; Holdline stores only its hash
list            list all keys with their tenants, scopes and expiry
rotate ID       replace the secret of a key; the old secret stays valid for a while
revoke ID       revoke a key; servers reject it within seconds
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from jobs.config import settings as env
from jobs.config import shared_config
from jobs.config.settings import ConfigError
from jobs.errors import HoldlineError
from jobs.names import Partition
from jobs.record_store import RecordStore
from jobs.redis.url import redis_from_url
from runtime.watched_file import locked, replace
from server.access import api_keys
from server.access.owners import is_tenant
from server.access.principal import OF_A_TOKEN, SCOPES

from . import cli
from .audited import Audit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from server.access.api_keys import Record

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
        with locked(self._path):
            records = self._read()
            found = records.pop(id_, None)
            if (None if found is None else api_keys.encode(found)) != before:
                raise HoldlineError(f"another process has changed the key {id_}; try again")
            if after is not None:
                records[id_] = api_keys.decode(after)
            replace(self._path, api_keys.format_file(records))

    def _read(self) -> dict[str, Record]:
        try:
            return api_keys.parse_file(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}


@contextlib.asynccontextmanager
async def store(environ: Mapping[str, str]) -> AsyncIterator[Store]:
    """Opens the file or the Redis that HOLDLINE_API_KEYS names.

    Raises: ConfigError.
    """
    env.check_names(environ)
    place = env.text(environ, "HOLDLINE_API_KEYS")
    if not place:
        raise ConfigError(
            "HOLDLINE_API_KEYS is not set: set it to redis or to the path of the key file"
        )
    if place != "redis":
        yield FileStore(Path(place))
        return
    async with redis_from_url(shared_config.redis_url(environ)).pipe(deadline=4) as pipe:
        yield RecordStore(pipe, Partition(0).api_keys)


async def create(store: Store, audit: Audit, arguments: argparse.Namespace) -> str:
    """Creates an API key. Returns the text to print, which contains the key."""
    if not is_tenant(arguments.tenant):
        raise ValueError("TENANT must be 1 to 64 letters, digits and _ . -")
    id_, now = api_keys.new_id(), time.time()
    written, secret = api_keys.new_key(id_)
    record = msgspec.convert(
        {
            "id": id_,
            "tenant": arguments.tenant,
            "scopes": arguments.scopes.split(","),
            "secrets": [msgspec.to_builtins(secret)],
            "models": arguments.model,
            "prompts": arguments.prompt,
            "created_at": round(now),
            "expires_at": None if arguments.expires is None else round(now + arguments.expires),
            "note": arguments.note,
        },
        api_keys.Record,
    )
    async with audit.change("keys create", f"key {id_}", after=_short(record)):
        await store.put(id_, None, api_keys.encode(record))
    return _shown_once(written)


async def list_all(store: Store) -> str:
    """Returns the text to print for all keys, with one line per key."""
    now = time.time()
    records = [api_keys.decode(record) for record in (await store.all()).values()]
    lines = [_line(record, now) for record in sorted(records, key=lambda r: (r.tenant, r.id))]
    return cli.key_list(lines)


async def rotate(store: Store, audit: Audit, id_: str, keep_seconds: float) -> str:
    """Replaces the secret of a key. Returns the text to print, which contains the new key."""
    before = await _found(store, id_)
    written, secret = api_keys.new_key(id_)
    record = api_keys.decode(before)
    after = api_keys.rotated(record, secret, round(time.time()), keep_seconds)
    changed = f"new secret; the old secret stays valid for {keep_seconds / 3600:g} hours"
    async with audit.change("keys rotate", f"key {id_}", before=_short(record), after=changed):
        await store.put(id_, before, api_keys.encode(after))
    return f"{_shown_once(written)}\nThe old secret stays valid for {keep_seconds / 3600:g} hours."


async def revoke(store: Store, audit: Audit, id_: str) -> str:
    """Revokes an API key. Returns the text to print."""
    before = await _found(store, id_)
    was = _short(api_keys.decode(before))
    async with audit.change("keys revoke", f"key {id_}", before=was, after="no key"):
        await store.put(id_, before, None)
    return f"{id_} was revoked"


async def _found(store: Store, id_: str) -> bytes:
    found = (await store.all()).get(id_)
    if found is None:
        raise HoldlineError(
            f"API key {id_} not found; list all keys with `python -m admin.keys list`"
        )
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


def _line(record: Record, now: float) -> str:
    parts = [record.id, *_grants(record)]
    if record.expires_at is not None:
        left = record.expires_at - now
        parts.append("expired" if left <= 0 else f"expires in {_duration(left)}")
    if sum(secret.until is None or secret.until > now for secret in record.secrets) > 1:
        parts.append("two valid secrets")
    return "  ".join([*parts, record.note] if record.note else parts)


def _duration(seconds: float) -> str:
    for unit, length in reversed(cli.UNITS.items()):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return "0s"


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.keys", __doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    making = actions.add_parser("create", help="create a key")
    making.add_argument("tenant", help="tenant of the key: 1 to 64 letters, digits and _ . -")
    making.add_argument(
        "--scopes",
        default=_DEFAULT_SCOPES,
        help=f"scopes of the key, from {','.join(SCOPES)} (default: {_DEFAULT_SCOPES})",
    )
    making.add_argument("--model", action="append", help="a model that the key may use; repeatable")
    making.add_argument(
        "--prompt", action="append", help="a prompt template that the key may use; repeatable"
    )
    making.add_argument(
        "--expires",
        type=cli.seconds,
        help="time until the key expires, such as 90d (default: never)",
    )
    making.add_argument("--note", default="", help="a note about the key, which `list` shows")
    actions.add_parser("list", help="list all keys")
    turning = actions.add_parser("rotate", help="replace the secret of a key")
    turning.add_argument("id", help="id of the key")
    turning.add_argument(
        "--keep",
        type=cli.seconds,
        default=cli.DAY,
        help="how long the old secret stays valid (default: 1d)",
    )
    actions.add_parser("revoke", help="revoke a key").add_argument("id", help="id of the key")
    return parser


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.keys`, and yields the lines to print."""
    arguments = _parser().parse_args(argv)
    audit = Audit.from_environ(environ)
    async with store(environ) as keys:
        match arguments.action:
            case "create":
                yield await create(keys, audit, arguments)
            case "rotate":
                yield await rotate(keys, audit, arguments.id, arguments.keep)
            case "revoke":
                yield await revoke(keys, audit, arguments.id)
            case _:
                yield await list_all(keys)


if __name__ == "__main__":
    sys.exit(cli.main("admin.keys", run))
