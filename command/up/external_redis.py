"""Checks that the Redis server at `REDIS_URL` replies and is new enough."""

import asyncio
from urllib.parse import urlsplit

import redis.asyncio
from redis.exceptions import RedisError
from redis.maint_notifications import MaintNotificationsConfig

from jobs.config.settings import ConfigError

from .redis import FLOOR, UNSET, NoRedisError

ASK_SECONDS = 5.0


async def examine(url: str) -> str:
    """Returns the name and version of the Redis at `url`, such as "redis 7.2.4".

    Raises:
        ConfigError: the URL is invalid.
        NoRedisError: the server does not reply, refuses the connection or is too old.
    """
    shown = without_secrets(url)
    try:
        client = redis.asyncio.Redis.from_url(
            url,
            socket_timeout=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
        )
    except ValueError as error:
        raise ConfigError(f"REDIS_URL={shown} is invalid: {error}") from None
    try:
        async with asyncio.timeout(ASK_SECONDS):
            info = await client.info("server")
    except (RedisError, OSError) as error:
        why = str(error) or "no reply"
        raise NoRedisError(f"REDIS_URL={shown} cannot be used: {why}\n{UNSET}") from None
    finally:
        await client.aclose()
    version = str(info["redis_version"])
    if tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
        raise NoRedisError(f"REDIS_URL={shown} is version {version}, but 7.0 or newer is required")
    valkey = info.get("valkey_version")
    return f"valkey {valkey}" if valkey else f"redis {version}"


def without_secrets(url: str) -> str:
    """Returns a URL for display, with masked credentials and without the query.

    The query is removed because it may contain a password.
    """
    parts = urlsplit(url)
    place = parts.netloc
    if "@" in place:
        place = f"***@{place.rpartition('@')[2]}"
    return f"{parts.scheme}://{place}{parts.path}" if parts.scheme else url
