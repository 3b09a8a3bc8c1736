"""Checks the keys of services, signers and models, and who may read and write their files."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from admin import keys as key_command
from jobs.config import settings as env
from jobs.errors import HoldlineError
from runtime.watched_file import read_text
from server.access import api_keys
from server.access.jwks import Jwks
from server.api.problem import Problem
from worker.upstream.credentials import KeyUnavailable, credential_of
from worker.upstream.key_text import key_of

from .findings import broken, ok, unknown, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from worker.config import Endpoint

    from .findings import Context, Finding

DAY: Final = 86_400.0
SOON_SECONDS: Final = 14 * DAY
# A key in a file is replaced by another program, which does so long before the key expires.
SOON_IN_A_FILE_SECONDS: Final = 300.0
NO_SUCH_KEY: Final = "holdline-doctor"


async def of_services(context: Context) -> AsyncIterator[Finding]:
    """Looks for API keys that have expired or expire soon."""
    if not env.text(context.environ, "HOLDLINE_API_KEYS"):
        return
    try:
        async with key_command.store(context.environ) as store:
            records = [api_keys.decode(data) for data in (await store.all()).values()]
    except (HoldlineError, ValueError, OSError) as error:
        reason = str(error) if isinstance(error, HoldlineError) else type(error).__name__
        yield unknown(f"the API keys cannot be read: {reason}", "holdline keys list")
        return
    now = time.time()
    ends = [(record.expires_at, record) for record in records if record.expires_at is not None]
    expired = [record.id for end, record in ends if end <= now]
    soon = [record.id for end, record in ends if now < end <= now + SOON_SECONDS]
    left = len(records) - len(expired)
    if not left:
        access = context.server and context.server.access
        others = access and (access.jwt_keys or access.jwks_url)
        command = "holdline keys create TENANT"
        if others:
            yield warning("there is no valid API key", "no service can call the server", command)
        else:
            seen = "there is no valid API key, and no other way to authenticate"
            yield broken(seen, "the server refuses every client", command, "G1")
    if expired and left:
        why = "their services get 401"
        seen = f"expired API keys: {_some(expired)}"
        yield warning(seen, why, f"holdline keys revoke {expired[0]}")
    if soon:
        why = "their services will get 401"
        seen = f"API keys that expire within 14 days: {_some(soon)}"
        yield warning(seen, why, "holdline keys create TENANT")
    if left and not expired and not soon:
        yield ok(f"API keys: {left}, all of them valid for at least 14 days")


async def of_signers(context: Context) -> AsyncIterator[Finding]:
    """Checks that there are keys that verify tokens."""
    if context.server is None:
        return
    access = context.server.access
    if access.jwt_keys is not None:
        count = len(access.jwt_keys.get())
        if count:
            yield ok(f"signing keys: {count}; they have no expiry")
        else:
            why = "the server refuses every token"
            command = "holdline signers add KID"
            yield broken("HOLDLINE_JWT_KEYS contains no key", why, command, "G1")
    if access.jwks_url:
        jwks = Jwks(access.jwks_url)
        command = 'curl -sS "$HOLDLINE_JWKS_URL"'
        try:
            await jwks.get(NO_SUCH_KEY)
            yield ok("HOLDLINE_JWKS_URL returns a key set")
        except Problem:
            why = "the server refuses tokens once the keys that it has fetched are six hours old"
            seen = "HOLDLINE_JWKS_URL returns no valid key set"
            yield broken(seen, why, command, "G1")
        finally:
            await jwks.close()


async def of_models(context: Context) -> AsyncIterator[Finding]:
    """Reads the API key of each model, and its expiry if the key comes from a file."""
    if context.worker is None:
        return
    for endpoint in context.worker.endpoints.values():
        if endpoint.api_key_file or endpoint.api_key_command:
            yield await _of_model(endpoint)


async def _of_model(endpoint: Endpoint) -> Finding:
    place = f"[models.{endpoint.name}]"
    credential = credential_of(endpoint)
    try:
        await credential.key()
    except KeyUnavailable as error:
        why = "calls of this model fail with upstream_key_unavailable"
        return broken(f"{place} {error}", why, "holdline check --program worker --connect", "G1")
    finally:
        await credential.close()
    if not endpoint.api_key_file:
        return ok(f"{place} api_key_command prints a key, which workers renew")
    ends_at = key_of(read_text(Path(endpoint.api_key_file)), time.time()).ends_at
    left = None if ends_at is None else ends_at - time.time()
    if left is not None and left <= 0:
        seen = f"{place} the key in api_key_file has expired"
        return broken(seen, "calls of this model fail", "replace the file", "G1")
    if left is not None and left < SOON_IN_A_FILE_SECONDS:
        seen = f"{place} the key in api_key_file expires in {left:.0f} s"
        return warning(seen, "calls of this model will fail", "replace the file", "G1")
    return ok(f"{place} the key in api_key_file can be read")


async def files(context: Context) -> AsyncIterator[Finding]:
    """Checks that other users can neither read secret files nor change any of the files."""
    found = [
        finding for path, secret in _files(context) for finding in _permissions(path, secret=secret)
    ]
    for finding in found or [ok("no other user can read or replace the secret files")]:
        yield finding


def _files(context: Context) -> Iterator[tuple[Path, bool]]:
    """Yields the path of each file that the settings name, and True if it contains secrets."""
    for name in ("HOLDLINE_ENCRYPTION_KEYS", "HOLDLINE_JWT_KEYS", "HOLDLINE_MODELS"):
        if path := env.text(context.environ, name):
            yield Path(path), name == "HOLDLINE_ENCRYPTION_KEYS" or _is_secret(Path(path), name)
    keys = env.text(context.environ, "HOLDLINE_API_KEYS")
    if keys not in ("", "redis"):
        yield Path(keys), False  # the file contains hashes only
    for endpoint in context.worker.endpoints.values() if context.worker else ():
        if endpoint.api_key_file:
            yield Path(endpoint.api_key_file), True


def _is_secret(path: Path, name: str) -> bool:
    """Returns True for a file of signing keys with a shared secret."""
    if name != "HOLDLINE_JWT_KEYS":
        return False
    try:
        keys = json.loads(read_text(path))["keys"]
        return any(key.get("kty") == "oct" for key in keys)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False


def _permissions(path: Path, *, secret: bool) -> Iterator[Finding]:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield unknown(
            f"the permissions of {path} cannot be read: {type(error).__name__}", f"ls -l {path}"
        )
        return
    if secret and mode & (stat.S_IRWXG | stat.S_IRWXO):
        why = "other users of this machine can read the key"
        yield warning(f"{path} has the mode {mode & 0o777:o}", why, f"chmod 600 {path}", "G15")
    elif mode & stat.S_IWOTH:
        why = "any user of this machine can change what servers and workers trust"
        yield warning(f"{path} has the mode {mode & 0o777:o}", why, f"chmod o-w {path}", "G9")


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
