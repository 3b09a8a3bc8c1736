"""The environment variables of all processes: their names, and how to read one.

Server and worker run from one environment, so both know all names, and read the same models file.
Reading is all that happens here: each process keeps its own frozen configuration.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .errors import HoldlineError
from .models import Catalog
from .models import catalog as _catalog
from .names import MAX_PARTITIONS
from .record import SharedSettings
from .redis.url import redis_from_url
from .toml import InvalidTable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .cipher import Cipher

PREFIX: Final = "HOLDLINE_"

KNOWN: Final[dict[str, str]] = {
    "REDIS_URL": "where Redis is: one, one behind Sentinels, or a cluster",
    "OPENAI_API_KEY": "the key for the model's endpoint",
    "OPENAI_BASE_URL": "the model's OpenAI-compatible endpoint",
    "HOLDLINE_HOST": "the address that the server binds",
    "HOLDLINE_PORT": "the port that the server binds",
    "HOLDLINE_MODEL": "the model when a request names none",
    "HOLDLINE_MODELS": "the file that lists models and prompt templates",
    "HOLDLINE_PROCESSES": "of how many processes a server or worker is",
    "HOLDLINE_CONCURRENCY": "answers that one worker process runs at once",
    "HOLDLINE_LEASE_SECONDS": "how long a silent worker keeps its answers",
    "HOLDLINE_MAX_ATTEMPTS": "how often an answer is tried at most",
    "HOLDLINE_RETENTION_SECONDS": "how long an answer is kept after its end",
    "HOLDLINE_PARTITIONS": "into how many partitions the keys are divided",
    "HOLDLINE_MAX_WAIT_SECONDS": "how long a prompt may wait for a worker",
    "HOLDLINE_MAX_WAITING": "how many prompts may wait in a partition",
    "HOLDLINE_TENANT_SOCKETS": "sockets of one tenant on one server process; 0 is any number",
    "HOLDLINE_TENANT_RUNNING": "how many answers of one tenant run at once; 0 is as many as can",
    "HOLDLINE_ON_ORPHAN": "go_on or cancel: what becomes of an answer that nobody follows",
    "HOLDLINE_ORPHAN_SECONDS": "how long nobody follows an answer before it is cancelled",
    "HOLDLINE_TENANT_WAITING": "how many prompts of one tenant wait; 0 is any number",
    "HOLDLINE_TENANT_REQUESTS_PER_MINUTE": "prompts that a tenant may send in a minute",
    "HOLDLINE_TENANT_TOKENS_PER_DAY": "tokens that a tenant may use in a day",
    "HOLDLINE_TENANT_MONEY_PER_DAY": "what a tenant's answers may cost in a day",
    "HOLDLINE_MAX_INPUT_TOKENS": "how many tokens the input of a prompt may have",
    "HOLDLINE_MODEL_TIMEOUT_SECONDS": "how long one call of the model may take",
    "HOLDLINE_FIRST_TOKEN_SECONDS": "how long the model may say nothing at first",
    "HOLDLINE_STALL_TIMEOUT_SECONDS": "how long the model may pause in mid-answer",
    "HOLDLINE_MAX_OUTPUT_BYTES": "how long an answer may be",
    "HOLDLINE_SHUTDOWN_GRACE_SECONDS": "how long a worker that is to stop goes on with its answers",
    "HOLDLINE_ON_WORKER_DEATH": "restart or fail: what becomes of a dead worker's answers",
    "HOLDLINE_WAIT_REPLICAS": "how many replicas must have a prompt before it counts as accepted",
    "HOLDLINE_ENCRYPTION_KEYS": "the file with the keys that encrypt what is in Redis",
    "HOLDLINE_PING_SECONDS": "the interval of pings on a socket",
    "HOLDLINE_MAX_BODY_BYTES": "the largest request or message",
    "HOLDLINE_MAX_SOCKETS": "how many sockets one server holds; 0 is as many as come",
    "HOLDLINE_REQUEST_SECONDS": "how long a client may take to send the head or body of a request",
    "HOLDLINE_UNSTORED_SECONDS": "how long a delivered answer with store: false is kept",
    "HOLDLINE_ALLOWED_ORIGINS": "the other sites whose pages may use the server",
    "HOLDLINE_WEBHOOK_URL": "where it is told that an answer has ended",
    "HOLDLINE_WEBHOOK_SECRET": "what signs webhooks; several while one is replaced",
    "HOLDLINE_WEBHOOK_ALLOW_PRIVATE": "1 lets webhooks go to private addresses, and without TLS",
    "HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS": "how long a client has to have seen the end",
    "HOLDLINE_API_KEYS": "redis, or the file with the API keys of services",
    "HOLDLINE_JWT_KEYS": "the file with the keys that tokens are checked with",
    "HOLDLINE_JWKS_URL": "the address of the keys that tokens are checked with",
    "HOLDLINE_JWT_ISSUER": "the issuer that a token must name",
    "HOLDLINE_JWT_AUDIENCE": "the audience that a token must name",
    "HOLDLINE_JWT_TENANT_CLAIM": "the claim of a token that names its tenant",
    "HOLDLINE_JWT_MAX_SECONDS": "how long a token may still be good for",
    "HOLDLINE_AUTH_SECONDS": "how long a socket may keep silent about who it is",
    "HOLDLINE_AUTH_GRACE_SECONDS": "how long a socket stays after the end of its token",
    "HOLDLINE_URL": "the server that the command holdline asks",
    "HOLDLINE_TOKEN": "the token that the command holdline shows to the server",
}

RENAMED: Final = {
    "HOLDLINE_KEYS": "HOLDLINE_API_KEYS",
    "HOLDLINE_ORIGINS": "HOLDLINE_ALLOWED_ORIGINS",
    "HOLDLINE_TOTAL_SECONDS": "HOLDLINE_MODEL_TIMEOUT_SECONDS",
    "HOLDLINE_SILENCE_SECONDS": "HOLDLINE_STALL_TIMEOUT_SECONDS",
    "HOLDLINE_GRACE_SECONDS": "HOLDLINE_SHUTDOWN_GRACE_SECONDS",
}


class ConfigError(HoldlineError):
    """A setting is wrong; the message names it and says what would be right."""


def check_names(environ: Mapping[str, str]) -> None:
    """Raises ConfigError for a HOLDLINE_ name that nobody knows, naming the nearest."""
    for name in sorted(environ):
        if name in RENAMED:
            raise ConfigError(f"{name} has a new name: set {RENAMED[name]} instead")
        if name.startswith(PREFIX) and name not in KNOWN:
            longer = [known for known in KNOWN if known.startswith(name.upper())]
            near = difflib.get_close_matches(name.upper(), longer or KNOWN, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{name} is not a setting; did you mean {near} ({KNOWN[near]})?")


def text(environ: Mapping[str, str], name: str, default: str) -> str:
    """The value of a name; an empty one counts as not set."""
    return environ.get(name, "").strip() or default


def number(
    environ: Mapping[str, str], name: str, default: float, least: float, most: float
) -> float:
    """The number of a name, from `least` to `most`.

    Raises: ConfigError.
    """
    written = text(environ, name, str(default))
    try:
        value = float(written)
    except ValueError:
        raise ConfigError(f"{name} must be a number, not {written!r}") from None
    if not least <= value <= most:
        raise ConfigError(f"{name} must be between {least:g} and {most:g}, not {written}")
    return value


def choice(environ: Mapping[str, str], name: str, *choices: str) -> str:
    """The value of a name that allows a few words; the first is the default.

    Raises: ConfigError.
    """
    value = text(environ, name, choices[0])
    if value not in choices:
        raise ConfigError(f"{name} must be {' or '.join(choices)}, not {value!r}")
    return value


def output_bytes(environ: Mapping[str, str]) -> int:
    """How long an answer may be: kept by workers, told by servers. Raises: ConfigError."""
    return int(number(environ, "HOLDLINE_MAX_OUTPUT_BYTES", 4_000_000, 1, 100_000_000))


def redis_url(environ: Mapping[str, str]) -> str:
    """Where Redis is.

    Raises: ConfigError.
    """
    url = text(environ, "REDIS_URL", "redis://127.0.0.1:6379/0")
    try:
        redis_from_url(url)
    except ValueError as error:
        raise ConfigError(f"REDIS_URL {error}") from None
    return url


def catalog(environ: Mapping[str, str]) -> Catalog:
    """What the models file says; without one, nothing. `HOLDLINE_MODEL` is the default of both.

    Raises: ConfigError, which names the file and the place in it.
    """
    path = text(environ, "HOLDLINE_MODELS", "")
    model = text(environ, "HOLDLINE_MODEL", "")
    if not path:
        return Catalog(default=model)
    try:
        found = _catalog(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeError) as error:
        why = type(error).__name__
        raise ConfigError(f"HOLDLINE_MODELS={path} cannot be read: {why}") from None
    except InvalidTable as error:
        raise ConfigError(f"HOLDLINE_MODELS={path}: {error}") from None
    if model and not found.knows(model):
        known = ", ".join(sorted(found.models))
        raise ConfigError(f"HOLDLINE_MODEL={model} is not in HOLDLINE_MODELS; known: {known}")
    return Catalog(found.models, model or found.default, found.prompts)


def cipher(environ: Mapping[str, str]) -> Cipher | None:
    """What encrypts prompts and answers in Redis; None where they are kept as they are.

    Raises: ConfigError, which repeats no key.
    """
    path = text(environ, "HOLDLINE_ENCRYPTION_KEYS", "")
    if not path:
        return None
    # Imported where it is needed: whoever does without does not pay for it.
    from .cipher import Cipher, InvalidEncryptionKeys

    try:
        return Cipher(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = type(error).__name__
        raise ConfigError(f"HOLDLINE_ENCRYPTION_KEYS={path} cannot be read: {why}") from None
    except InvalidEncryptionKeys as error:
        raise ConfigError(f"HOLDLINE_ENCRYPTION_KEYS={path}: {error}") from None


def hide(url: str) -> str:
    """The URL without its password and query, to be shown."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    hidden = "…@" if "@" in parts.netloc else ""
    return f"{parts.scheme}://{hidden}{place}{parts.path}"


def terms(environ: Mapping[str, str]) -> SharedSettings:
    """The numbers that all processes on one Redis share.

    Raises: ConfigError.
    """

    def milliseconds(name: str, default: float, least: float, most: float) -> int:
        return round(1000 * number(environ, name, default, least, most))

    day = 86_400
    return SharedSettings(
        lease_ms=milliseconds("HOLDLINE_LEASE_SECONDS", 15, 0.1, 600),
        retention_ms=milliseconds("HOLDLINE_RETENTION_SECONDS", 3600, 0.1, 30 * day),
        max_wait_ms=milliseconds("HOLDLINE_MAX_WAIT_SECONDS", 3600, 0.1, 7 * day),
        max_run_ms=milliseconds("HOLDLINE_MODEL_TIMEOUT_SECONDS", 900, 0.1, day),
        max_attempts=int(number(environ, "HOLDLINE_MAX_ATTEMPTS", 3, 1, 100)),
        max_waiting=int(number(environ, "HOLDLINE_MAX_WAITING", 10_000, 1, 1_000_000)),
        orphan_ms=milliseconds("HOLDLINE_ORPHAN_SECONDS", 60, 0.1, day),
        cancel_orphans=choice(environ, "HOLDLINE_ON_ORPHAN", "go_on", "cancel") == "cancel",
        tenant_sockets=int(number(environ, "HOLDLINE_TENANT_SOCKETS", 0, 0, 1_000_000)),
        tenant_running=int(number(environ, "HOLDLINE_TENANT_RUNNING", 0, 0, 1_000_000)),
        tenant_waiting=int(number(environ, "HOLDLINE_TENANT_WAITING", 0, 0, 1_000_000)),
        tenant_requests=int(
            number(environ, "HOLDLINE_TENANT_REQUESTS_PER_MINUTE", 0, 0, 1_000_000)
        ),
        tenant_tokens=int(number(environ, "HOLDLINE_TENANT_TOKENS_PER_DAY", 0, 0, 1e12)),
        tenant_money=number(environ, "HOLDLINE_TENANT_MONEY_PER_DAY", 0, 0, 1e9),
        max_input_tokens=int(number(environ, "HOLDLINE_MAX_INPUT_TOKENS", 0, 0, 1e9)),
        fail_on_worker_death=choice(environ, "HOLDLINE_ON_WORKER_DEATH", "restart", "fail")
        == "fail",
        webhooks=bool(text(environ, "HOLDLINE_WEBHOOK_URL", "")),
        hook_wait_ms=milliseconds("HOLDLINE_WEBHOOK_ONLY_IF_UNSEEN_SECONDS", 0, 0, day),
        partitions=int(number(environ, "HOLDLINE_PARTITIONS", 1, 1, MAX_PARTITIONS)),
    )
