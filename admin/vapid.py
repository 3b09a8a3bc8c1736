"""Manages the VAPID keys with which Holdline signs pushes to browsers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from jobs.errors import HoldlineError
from jobs.vapid import MAX_VAPID_KEYS, encode, new_vapid_key, parse_vapid_keys
from runtime import command_line
from runtime.watched_file import replace

from . import cli
from .audited import Audit
from .cli import Output
from .key_file import key_file, locked_key_file, read_key_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from jobs.vapid import VapidKey

SETTING: Final = "HOLDLINE_VAPID_KEYS"
HELP: Final = """\
Manages the VAPID keys with which Holdline signs pushes to browsers.

HOLDLINE_VAPID_KEYS names the file of private keys. Give it to the servers and workers too, and
restart them after each change. New subscriptions use the first key. A browser accepts only the key
with which it has subscribed, so keep an old key until its subscriptions have expired.

examples:
  export HOLDLINE_VAPID_KEYS=vapid.keys
  holdline vapid create                        create a key, which new subscriptions use
  holdline vapid list
  holdline vapid remove ID                     sixty days after a newer key was created\
"""
CREATE_HELP: Final = """\
Creates a key and puts it first in the file.

examples:
  holdline vapid create\
"""
LIST_HELP: Final = """\
Lists the public keys in the file.

New subscriptions use the first key.

examples:
  holdline vapid list
  holdline vapid list --json\
"""
REMOVE_HELP: Final = """\
Removes a key. The browsers that have subscribed with it then get no more pushes.

examples:
  holdline vapid remove ID\
"""
ID_DIGITS: Final = 8


@click.group(cls=command_line.Group, help=HELP)
def vapid() -> None:
    """The group of the commands for VAPID keys."""


@vapid.command("create", help=CREATE_HELP)
@cli.prints
async def create(environ: Mapping[str, str]) -> AsyncIterator[Output]:
    """Creates a key and puts it first in the file."""
    audit, file = Audit.from_environ(environ), key_file(SETTING, environ)
    with locked_key_file(SETTING, file):
        listed = _read(file)
        if len(listed) >= MAX_VAPID_KEYS:
            raise HoldlineError(
                f"the limit of {MAX_VAPID_KEYS} keys is reached; remove the oldest key first"
            )
        key = new_vapid_key()
        async with audit.change("vapid create", f"VAPID key {_id(key)}", after="first key"):
            replace(file, _text([key, *listed]))
    yield Output(_line(key), _as_dict(key))


@vapid.command("list", help=LIST_HELP)
@cli.prints
async def list_all(environ: Mapping[str, str]) -> AsyncIterator[Output]:
    """Lists the keys in the file."""
    found = _read(key_file(SETTING, environ))
    for key in found:
        yield Output(_line(key), _as_dict(key))
    yield cli.total(len(found), "key")


@vapid.command("remove", help=REMOVE_HELP)
@click.argument("id_", metavar="ID")
@cli.prints
async def remove(environ: Mapping[str, str], *, id_: str) -> AsyncIterator[Output]:
    """Removes a key from the file."""
    audit, file = Audit.from_environ(environ), key_file(SETTING, environ)
    with locked_key_file(SETTING, file):
        listed = _read(file)
        kept = [key for key in listed if _id(key) != id_]
        if len(kept) == len(listed):
            raise HoldlineError(
                f"VAPID key {id_} not found in {file}; `holdline vapid list` lists all keys"
            )
        if not kept:
            raise HoldlineError(
                "this is the only VAPID key; unset HOLDLINE_VAPID_KEYS to send no more pushes"
            )
        async with audit.change("vapid remove", f"VAPID key {id_}", after="no key"):
            replace(file, _text(kept))
    yield Output(f"{id_} was removed", {"id": id_, "removed": True})


def _read(file: Path) -> list[VapidKey]:
    found = read_key_file(SETTING, file, parse_vapid_keys)
    return [] if found is None else [*found.values()]


def _id(key: VapidKey) -> str:
    return hashlib.sha256(key.public).hexdigest()[:ID_DIGITS]


def _line(key: VapidKey) -> str:
    return f"{_id(key)}  {encode(key.public)}"


def _as_dict(key: VapidKey) -> dict[str, Any]:
    """Returns the object for `--json`, which contains no private key."""
    return {"id": _id(key), "public_key": encode(key.public)}


def _text(keys: Iterable[VapidKey]) -> bytes:
    return "".join(f"{key.written}\n" for key in keys).encode()
