"""Manages the signing keys with which backends sign tokens for their users.

add KID       create a key pair, print the private key and store only the public key
list          list the keys that verify tokens
remove KID    remove a key; servers then reject tokens that are signed with this key

HOLDLINE_JWT_KEYS names the file of public keys, a JSON Web Key Set (RFC 7517). To replace a key,
add a new key, let the backend sign with the new key, and remove the old key when its last token
has expired.
"""

from __future__ import annotations

import base64
import json
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jobs.config import settings as env
from jobs.config.settings import ConfigError
from jobs.errors import HoldlineError
from runtime.watched_file import locked, replace
from server.access.jwt import MIN_SECRET, Key, Keys, parse_keys

from . import cli
from .audited import Audit

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Mapping, Sequence

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


async def run(environ: Mapping[str, str], argv: Sequence[str]) -> AsyncIterator[str]:
    """Runs `python -m admin.signers`, and yields the text to print."""
    arguments = _parser().parse_args(argv)
    audit = Audit.from_environ(environ)
    path = env.text(environ, "HOLDLINE_JWT_KEYS")
    if not path:
        raise ConfigError("HOLDLINE_JWT_KEYS is not set: set it to the path of the key file")
    file = Path(path)
    with locked(file):
        listed = _read(file)
        match arguments.action:
            case "add":
                private, public = new_pair(
                    arguments.kid, arguments.alg, arguments.tenant, operator=arguments.operator
                )
                text = _text([*listed, public])
                after = _short(_keys([public])[arguments.kid])
                async with audit.change("signers add", f"signing key {arguments.kid}", after=after):
                    replace(file, text)
                yield f"{json.dumps(private)}\n{KEEP[arguments.alg]}"
            case "remove":
                if (key := _keys(listed).get(arguments.kid)) is None:
                    raise HoldlineError(f"signing key {arguments.kid} not found in {file}")
                text = _text([one for one in listed if one["kid"] != key.kid])
                async with audit.change(
                    "signers remove", f"signing key {key.kid}", before=_short(key), after="no key"
                ):
                    replace(file, text)
                yield f"{arguments.kid} was removed"
            case _:
                yield cli.key_list([f"{key.kid}  {_short(key)}" for key in _keys(listed).values()])


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
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


def _parser() -> argparse.ArgumentParser:
    parser = cli.parser("admin.signers", __doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    adding = actions.add_parser("add", help="create a key pair")
    adding.add_argument("kid", help="name of the key, such as 2026-11")
    adding.add_argument(
        "--alg",
        choices=KEEP,
        default="EdDSA",
        help="signature algorithm (default: EdDSA); HS256 uses one shared secret",
    )
    adding.add_argument(
        "--tenant", help="the only tenant that tokens signed with this key may name"
    )
    adding.add_argument(
        "--operator",
        action="store_true",
        help="tokens signed with this key may have the scopes operator and contents",
    )
    actions.add_parser("list", help="list all keys")
    actions.add_parser("remove", help="remove a key").add_argument("kid", help="name of the key")
    return parser


if __name__ == "__main__":
    sys.exit(cli.main("admin.signers", run))
