"""Reads the settings that server and worker share from environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from jobs.ids import MAX_PARTITIONS
from jobs.record import SharedSettings
from jobs.redis.url import redis_from_url
from runtime.watched_file import read_text

from .models import Catalog
from .models import catalog as _catalog
from .settings import ConfigError, milliseconds, number, text, whole
from .toml import InvalidTable

if TYPE_CHECKING:
    from jobs.cipher import Cipher
    from jobs.vapid import VapidKey
    from jobs.worker_death import OnWorkerDeath


def redis_url(environ: Mapping[str, str]) -> str:
    """Reads and checks the URL of Redis.

    Raises: ConfigError.
    """
    url = text(environ, "REDIS_URL")
    try:
        redis_from_url(url)
    except ValueError as error:
        raise ConfigError(f"REDIS_URL: {error}") from None
    return url


def catalog(environ: Mapping[str, str]) -> Catalog:
    """Returns the content of the models file, or an empty catalog if no file is configured.

    The setting `HOLDLINE_MODEL` overrides the default model of the file.

    Raises: ConfigError, whose message names the file, and the invalid table and key.
    """
    path = text(environ, "HOLDLINE_MODELS")
    model = text(environ, "HOLDLINE_MODEL")
    if not path:
        return Catalog(default=model)
    try:
        found = _catalog(_read("HOLDLINE_MODELS", path))
    except InvalidTable as error:
        raise ConfigError(f"HOLDLINE_MODELS={path}: {error}") from None
    if model and not found.knows(model):
        known = ", ".join(sorted(found.models))
        raise ConfigError(
            f"HOLDLINE_MODEL={model} is not in HOLDLINE_MODELS; known models: {known}"
        )
    return Catalog(found.models, model or found.default, found.prompts)


def cipher(environ: Mapping[str, str]) -> Cipher | None:
    """Returns the cipher for prompts and answers in Redis, or None if they are not encrypted.

    Raises: ConfigError, whose message contains no encryption key.
    """
    path = text(environ, "HOLDLINE_ENCRYPTION_KEYS")
    if not path:
        return None
    # The import of the cryptography library is slow, so processes without encryption skip it.
    from jobs.cipher import Cipher, InvalidEncryptionKeys

    try:
        return Cipher(_read("HOLDLINE_ENCRYPTION_KEYS", path))
    except InvalidEncryptionKeys as error:
        raise ConfigError(f"HOLDLINE_ENCRYPTION_KEYS={path}: {error}") from None


def vapid_keys(environ: Mapping[str, str]) -> dict[bytes, VapidKey]:
    """Returns the keys that sign pushes by their public keys, or an empty dict without a file.

    Raises: ConfigError, whose message contains no key.
    """
    path = text(environ, "HOLDLINE_VAPID_KEYS")
    if not path:
        return {}
    # The import of the cryptography library is slow, so processes without these keys skip it.
    from jobs.vapid import InvalidVapidKeys, parse_vapid_keys

    try:
        return parse_vapid_keys(_read("HOLDLINE_VAPID_KEYS", path))
    except InvalidVapidKeys as error:
        raise ConfigError(f"HOLDLINE_VAPID_KEYS={path}: {error}") from None


def push_devices(environ: Mapping[str, str]) -> bool:
    """Returns True if apps may register device tokens. Raises: ConfigError."""
    devices = text(environ, "HOLDLINE_PUSH_DEVICES") == "1"
    if devices and not text(environ, "HOLDLINE_WEBHOOK_URL"):
        raise ConfigError(
            "HOLDLINE_PUSH_DEVICES=1 requires HOLDLINE_WEBHOOK_URL, which receives the pushes"
        )
    return devices


def _read(name: str, path: str) -> str:
    try:
        return read_text(Path(path))
    except ValueError as error:
        raise ConfigError(f"{name}={path}: {error}") from None


def hide(url: str) -> str:
    """Returns the URL without user, password and query, for logs and messages."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    hidden = "…@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{hidden}{place}{parts.path}"


def partitions(environ: Mapping[str, str]) -> range:
    """Returns the numbers of the partitions that new responses get.

    Raises: ConfigError.
    """
    first, count = whole(environ, "HOLDLINE_FIRST_PARTITION"), whole(environ, "HOLDLINE_PARTITIONS")
    if first + count > MAX_PARTITIONS:
        raise ConfigError(
            f"HOLDLINE_FIRST_PARTITION={first} must be at most {MAX_PARTITIONS - count} with "
            f"HOLDLINE_PARTITIONS={count}, because partitions are numbered up to "
            f"{MAX_PARTITIONS - 1}"
        )
    return range(first, first + count)


def shared_settings(environ: Mapping[str, str]) -> SharedSettings:
    """Reads the settings that must be the same in all processes on one Redis.

    Raises: ConfigError.
    """
    return SharedSettings(
        lease_ms=milliseconds(environ, "HOLDLINE_LEASE_SECONDS"),
        retention_ms=milliseconds(environ, "HOLDLINE_RETENTION_SECONDS"),
        max_wait_ms=milliseconds(environ, "HOLDLINE_MAX_WAIT_SECONDS"),
        max_run_ms=milliseconds(environ, "HOLDLINE_MODEL_TIMEOUT_SECONDS"),
        max_attempts=whole(environ, "HOLDLINE_MAX_ATTEMPTS"),
        max_waiting=whole(environ, "HOLDLINE_MAX_WAITING"),
        max_waiting_bytes=whole(environ, "HOLDLINE_MAX_WAITING_BYTES"),
        conversation_ms=milliseconds(environ, "HOLDLINE_CONVERSATION_RETENTION_SECONDS"),
        max_conversation_bytes=whole(environ, "HOLDLINE_MAX_CONVERSATION_BYTES"),
        max_conversation_items=whole(environ, "HOLDLINE_MAX_CONVERSATION_ITEMS"),
        subject_conversation_bytes=whole(environ, "HOLDLINE_SUBJECT_CONVERSATION_BYTES"),
        orphan_ms=milliseconds(environ, "HOLDLINE_ORPHAN_SECONDS"),
        cancel_orphans=text(environ, "HOLDLINE_ON_ORPHAN") == "cancel",
        tenant_sockets=whole(environ, "HOLDLINE_TENANT_SOCKETS"),
        tenant_running=whole(environ, "HOLDLINE_TENANT_RUNNING"),
        tenant_waiting=whole(environ, "HOLDLINE_TENANT_WAITING"),
        tenant_waiting_bytes=whole(environ, "HOLDLINE_TENANT_WAITING_BYTES"),
        tenant_requests=whole(environ, "HOLDLINE_TENANT_REQUESTS_PER_MINUTE"),
        tenant_tokens=whole(environ, "HOLDLINE_TENANT_TOKENS_PER_DAY"),
        tenant_money=number(environ, "HOLDLINE_TENANT_MONEY_PER_DAY"),
        max_input_tokens=whole(environ, "HOLDLINE_MAX_INPUT_TOKENS"),
        subject_running=whole(environ, "HOLDLINE_SUBJECT_RUNNING"),
        subject_requests=whole(environ, "HOLDLINE_SUBJECT_REQUESTS_PER_MINUTE"),
        subject_tokens=whole(environ, "HOLDLINE_SUBJECT_TOKENS_PER_DAY"),
        subject_money=number(environ, "HOLDLINE_SUBJECT_MONEY_PER_DAY"),
        on_worker_death=cast("OnWorkerDeath", text(environ, "HOLDLINE_ON_WORKER_DEATH")),
        webhooks=bool(text(environ, "HOLDLINE_WEBHOOK_URL")),
        hook_wait_ms=milliseconds(environ, "HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS"),
        push=bool(text(environ, "HOLDLINE_VAPID_KEYS")) or push_devices(environ),
        push_wait_ms=milliseconds(environ, "HOLDLINE_PUSH_WAIT_SECONDS"),
        partitions=partitions(environ),
    )
