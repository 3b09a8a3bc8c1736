"""Addresses a Redis as one of its users."""

from __future__ import annotations

from urllib.parse import urlsplit


def as_user(redis_url: str, login: str) -> str:
    """Returns the URL of the same Redis for the user and the password `user:password`."""
    parts = urlsplit(redis_url)
    if parts.scheme == "unix":
        return f"unix://{login}@{parts.path}?{parts.query}"
    return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}").geturl()
