"""The worker's settings, from environment variables; see `jobs.environment` for their names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobs import environment
from jobs.environment import ConfigError, number, text

from . import prompt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.record import Terms

# The SDK's own pool holds so many connections; a job beyond them would wait for one unseen.
MOST_CONCURRENCY = 1000
# An endpoint of one's own often wants no key, and the SDK insists on one.
NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one worker process. Times in seconds."""

    redis_url: str = field(repr=False)
    api_key: str = field(repr=False)
    base_url: str | None = field(repr=False)
    model: str
    concurrency: int
    total: float
    first_token: float
    silence: float
    grace: float
    max_output_bytes: int
    terms: Terms

    @property
    def limit_name(self) -> str:
        """What the model's endpoint calls the limit of an answer's length."""
        host = urlsplit(self.base_url).hostname if self.base_url else "api.openai.com"
        return prompt.OPENAI_LIMIT if host == "api.openai.com" else prompt.LIMIT


def load(environ: Mapping[str, str]) -> Config:
    """The settings of an environment.

    Raises: ConfigError.
    """
    environment.check_names(environ)
    base_url = text(environ, "OPENAI_BASE_URL", "")
    key = text(environ, "OPENAI_API_KEY", "")
    if not base_url and not key:
        raise ConfigError(
            "no model: set OPENAI_API_KEY for OpenAI's endpoint, "
            "or OPENAI_BASE_URL for any compatible one"
        )
    if base_url and urlsplit(base_url).scheme not in ("http", "https"):
        raise ConfigError("OPENAI_BASE_URL must begin with http:// or https://")
    return Config(
        redis_url=environment.redis_url(environ),
        api_key=key or NO_KEY,
        base_url=base_url or None,
        model=text(environ, "HOLDLINE_MODEL", "default"),
        concurrency=int(number(environ, "HOLDLINE_CONCURRENCY", 100, 1, MOST_CONCURRENCY)),
        total=number(environ, "HOLDLINE_TOTAL_SECONDS", 900, 0.1, 86_400),
        first_token=number(environ, "HOLDLINE_FIRST_TOKEN_SECONDS", 120, 0.05, 86_400),
        silence=number(environ, "HOLDLINE_SILENCE_SECONDS", 60, 0.05, 86_400),
        grace=number(environ, "HOLDLINE_GRACE_SECONDS", 20, 0, 3600),
        max_output_bytes=int(
            number(environ, "HOLDLINE_MAX_OUTPUT_BYTES", 4_000_000, 1, 100_000_000)
        ),
        terms=environment.terms(environ),
    )
