"""Manages the signing keys with which backends sign tokens for their users."""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from jobs.errors import HoldlineError
from runtime import command_line
from runtime.watched_file import replace
from server.access.jwt import MIN_SECRET, Key, Keys, parse_keys

from . import cli
from .arguments import TENANT, text
from .audited import Audit
from .cli import Output
from .key_file import key_file, locked_key_file, read_key_file

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

SETTING: Final = "HOLDLINE_JWT_KEYS"
HELP: Final = """\
Manages the signing keys with which backends sign tokens for their users.

HOLDLINE_JWT_KEYS names the file of public keys, a JSON Web Key Set (RFC 7517). Give it to the
servers too. To replace a key, add a new key, let the backend sign with the new key, and remove the
old key when its last token has expired.

examples:
  export HOLDLINE_JWT_KEYS=signers.json
  holdline signers add 2026-11                 create a key pair, and show the private key once
  holdline signers list
  holdline signers remove 2026-11              servers then reject tokens of this key\
"""
ADD_HELP: Final = """\
Creates a key pair, and shows the private key once.

Only the public key is stored. KID is the name of the key, such as 2026-11.

examples:
  holdline signers add 2026-11
  holdline signers add 2026-11 --tenant acme   its tokens may name only this tenant
  holdline signers add console --operator      for the console; keep this key apart\
"""
LIST_HELP: Final = """\
Lists the keys that verify tokens.

examples:
  holdline signers list
  holdline signers list --json\
"""
REMOVE_HELP: Final = """\
Removes a key. Servers then reject tokens that are signed with this key.

examples:
  holdline signers remove 2026-11\
"""
KEEP: Final = {
    "EdDSA": "Save this key now, on the backend only. It cannot be shown again.",
    "HS256": "Save this key on the backend only. The server stores the same key in its file.",
}


def new_pair(
    kid: str, algorithm: str, tenant: str | None, *, operator: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a signing key and its verification key, which are the same key for HS256."""
    about: dict[str, Any] = {"kid": kid, "alg": algorithm, "use": "sig"}
    about |= {"tenant": tenant} if tenant else {}
    about |= {"operator": True} if operator else {}
    if algorithm == "HS256":
        shared = {"kty": "oct", **about, "k": _encode(secrets.token_bytes(MIN_SECRET))}
        return shared, shared

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate()
    public = {
        "kty": "OKP",
        "crv": "Ed25519",
        **about,
        "x": _encode(private.public_key().public_bytes_raw()),
    }
    return {**public, "d": _encode(private.private_bytes_raw())}, public


@click.group(cls=command_line.Group, help=HELP)
def signers() -> None:
    """The group of the commands for signing keys."""


@signers.command("add", help=ADD_HELP)
@click.argument("kid", type=text(1, 128))
@click.option(
    "--alg",
    type=click.Choice(list(KEEP)),
    default="EdDSA",
    show_default=True,
    help="signature algorithm; HS256 uses one shared secret",
)
@click.option(
    "--tenant", type=TENANT, help="the only tenant that tokens signed with this key may name"
)
@click.option(
    "--operator",
    is_flag=True,
    help="tokens signed with this key may have the scopes operator and contents",
)
@cli.prints
async def add(
    environ: Mapping[str, str], *, kid: str, alg: str, tenant: str | None, operator: bool
) -> AsyncIterator[Output]:
    """Creates a key pair, and shows the private key once."""
    audit, file = Audit.from_environ(environ), key_file(SETTING, environ)
    with locked_key_file(SETTING, file):
        private, public = new_pair(kid, alg, tenant, operator=operator)
        text = _text([*_read(file), public])
        key = _keys([public])[kid]
        async with audit.change("signers add", f"signing key {kid}", after=_short(key)):
            replace(file, text)
    yield Output(f"{json.dumps(private)}\n{KEEP[alg]}", {**_as_dict(key), "private_key": private})


@signers.command("list", help=LIST_HELP)
@cli.prints
async def list_all(environ: Mapping[str, str]) -> AsyncIterator[Output]:
    """Lists the keys in the file."""
    found = _keys(_read(key_file(SETTING, environ)))
    for key in found.values():
        yield Output(f"{key.kid}  {_short(key)}", _as_dict(key))
    yield cli.total(len(found), "key")


@signers.command("remove", help=REMOVE_HELP)
@click.argument("kid")
@cli.prints
async def remove(environ: Mapping[str, str], *, kid: str) -> AsyncIterator[Output]:
    """Removes a key from the file."""
    audit, file = Audit.from_environ(environ), key_file(SETTING, environ)
    with locked_key_file(SETTING, file):
        listed = _read(file)
        if (key := _keys(listed).get(kid)) is None:
            raise HoldlineError(
                f"signing key {kid} not found in {file}; `holdline signers list` lists all keys"
            )
        text = _text([one for one in listed if one["kid"] != kid])
        before = _short(key)
        async with audit.change(
            "signers remove", f"signing key {kid}", before=before, after="no key"
        ):
            replace(file, text)
    yield Output(f"{kid} was removed", {"kid": kid, "removed": True})


def _as_dict(key: Key) -> dict[str, Any]:
    """Returns the object for `--json`, which contains no secret."""
    return {
        "kid": key.kid,
        "algorithm": key.algorithm,
        "tenant": key.tenant,
        "operator": key.operator,
    }


def _read(file: Path) -> list[dict[str, Any]]:
    return read_key_file(SETTING, file, _listed) or []


def _listed(text: str) -> list[dict[str, Any]]:
    """Returns the keys in a file as they are written. Raises: ValueError."""
    parse_keys(text)
    listed: list[dict[str, Any]] = json.loads(text)["keys"]
    return listed


def _keys(listed: list[dict[str, Any]]) -> Keys:
    return parse_keys(json.dumps({"keys": listed}))


def _short(key: Key) -> str:
    """Describes a key without its content."""
    operator = "  operator" if key.operator else ""
    return f"{key.algorithm}  {key.tenant or 'any tenant'}{operator}"


def _text(listed: list[dict[str, Any]]) -> bytes:
    """Returns the content of a key file with these keys. Raises: ValueError."""
    text = json.dumps({"keys": listed}, indent=2)
    parse_keys(text)
    return text.encode() + b"\n"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
