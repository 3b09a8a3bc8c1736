"""Reads the worker's settings from environment variables, which `jobs.config.settings` lists."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jobs import worker_death
from jobs.checkpoint import Checkpoint
from jobs.config import settings, shared_config
from jobs.config.models import AUTHORIZATION, CHAT, DROP
from jobs.config.settings import ConfigError, number, text, whole

from .push.config import PushConfig
from .webhooks.message import Receiver, read_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jobs.cipher import Cipher
    from jobs.config.models import Api, Continues, Model, Price, UnsupportedTools
    from jobs.record import SharedSettings
    from jobs.worker_death import OnWorkerDeath

# Self-hosted endpoints often need no API key, but the SDK requires one.
NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint of one model. Times are in seconds.

    `upstream` is the endpoint's own name for the model; if it is None, the endpoint gets the
    requested name. The worker makes at most `concurrency` calls at once. `rates` are the limits on
    requests and tokens per minute for all workers together. `fallbacks` are the names of other
    endpoints. `output_limit` is the name of the parameter that limits the output; if it is None,
    the host of the endpoint determines the name. The API key is `api_key`, unless `api_key_file` or
    `api_key_command` is set. The worker sends the key in the header `api_key_header`. If
    `background` is True, the endpoint generates responses in the background. `continues` is the
    format in which the endpoint accepts an unfinished text to continue, or None if it cannot.
    `on_worker_death` is the policy in the model's table, or None. If `send_traceparent` is True,
    the worker sends the endpoint the context of the trace.
    """

    name: str
    upstream: str | None
    base_url: str | None = field(repr=False)
    api_key: str = field(repr=False)
    api: Api
    concurrency: int
    first_token_seconds: float
    stall_timeout_seconds: float
    timeout_seconds: float
    fallbacks: tuple[str, ...] = ()
    price: Price | None = None
    rates: tuple[int, int] = (0, 0)
    output_limit: str | None = None
    stream_options: bool = True
    unsupported_tools: UnsupportedTools = "refuse"
    api_key_file: str = ""
    api_key_command: tuple[str, ...] = field(default=(), repr=False)
    api_key_header: str = AUTHORIZATION
    background: bool = False
    continues: Continues | None = None
    on_worker_death: OnWorkerDeath | None = None
    send_traceparent: bool = False

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint of the model's texts, or None if the model cannot continue them."""
        if self.continues is None:
            return None
        return Checkpoint(self.name, upstream_model=self.upstream or "")


@dataclass(frozen=True, slots=True)
class Config:
    """All settings of one worker process. Times are in seconds.

    `endpoints` maps the model names in the models file to endpoints. Without a models file,
    `single` is the endpoint for every model name. `host` and `port` are the address of the status
    port; without a `port` the worker has none.
    """

    redis_url: str = field(repr=False)
    model: str
    endpoints: Mapping[str, Endpoint]
    single: Endpoint | None
    concurrency: int
    host: str
    port: int
    processes: int
    total: float
    grace: float
    max_output_bytes: int
    redis_retry_seconds: float
    max_unsent_bytes: int
    max_held_bytes: int
    shared: SharedSettings
    receiver: Receiver | None = None
    cipher: Cipher | None = None
    push: PushConfig = field(default_factory=PushConfig)

    @property
    def model_names(self) -> set[str]:
        """The names by which requests may select a model, as far as they are configured."""
        return {*self.endpoints, self.model}

    def routes(self, model: str | None) -> list[Endpoint]:
        """Returns the model's endpoint and its fallbacks, or an empty list for an unknown model."""
        if self.single is not None:
            return [self.single]
        endpoint = self.endpoints.get(model or self.model)
        if endpoint is None:
            return []
        return [endpoint, *(self.endpoints[name] for name in endpoint.fallbacks)]

    def on_worker_death(self, params: Mapping[str, Any]) -> OnWorkerDeath:
        """Returns the policy for a response with these parameters if its worker dies."""
        endpoint = self.endpoints.get(params.get("model") or self.model)
        of_model = endpoint.on_worker_death if endpoint else None
        return worker_death.on_worker_death(params, of_model, self.shared.on_worker_death)

    def drops(self, model: str | None) -> bool:
        """Returns True if calls for the model, also to its fallbacks, omit unsupported tools."""
        return any(one.unsupported_tools == DROP for one in self.routes(model)[:1])


def load(environ: Mapping[str, str]) -> Config:
    """Reads the settings from environment variables.

    Raises: ConfigError.
    """
    settings.check_names(environ)
    catalog = shared_config.catalog(environ)
    concurrency = whole(environ, "HOLDLINE_CONCURRENCY")
    usual = Endpoint(
        name="",
        upstream=None,
        base_url=None,
        api_key=NO_KEY,
        api=CHAT,
        concurrency=concurrency,
        first_token_seconds=number(environ, "HOLDLINE_FIRST_TOKEN_SECONDS"),
        stall_timeout_seconds=number(environ, "HOLDLINE_STALL_TIMEOUT_SECONDS"),
        timeout_seconds=number(environ, "HOLDLINE_MODEL_TIMEOUT_SECONDS"),
        send_traceparent=text(environ, "HOLDLINE_SEND_TRACEPARENT") == "1",
    )
    return Config(
        redis_url=shared_config.redis_url(environ),
        model=catalog.default or "default",
        endpoints={
            name: _endpoint(name, model, usual, environ) for name, model in catalog.models.items()
        },
        single=None if catalog.models else _single(usual, environ),
        concurrency=concurrency,
        host=text(environ, "HOLDLINE_WORKER_HOST"),
        port=whole(environ, "HOLDLINE_WORKER_PORT"),
        processes=whole(environ, "HOLDLINE_PROCESSES"),
        total=usual.timeout_seconds,
        grace=number(environ, "HOLDLINE_SHUTDOWN_GRACE_SECONDS"),
        max_output_bytes=whole(environ, "HOLDLINE_MAX_OUTPUT_BYTES"),
        redis_retry_seconds=number(environ, "HOLDLINE_REDIS_RETRY_SECONDS"),
        max_unsent_bytes=whole(environ, "HOLDLINE_MAX_UNSENT_BYTES"),
        max_held_bytes=whole(environ, "HOLDLINE_MAX_HELD_BYTES"),
        shared=shared_config.shared_settings(environ),
        receiver=_receiver(environ),
        cipher=shared_config.cipher(environ),
        push=PushConfig.from_environ(environ),
    )


def _receiver(environ: Mapping[str, str]) -> Receiver | None:
    """Returns the receiver of webhooks, or None if no webhook URL is set.

    Raises: ConfigError.
    """
    private = text(environ, "HOLDLINE_WEBHOOK_ALLOW_PRIVATE") == "1"
    url = text(environ, "HOLDLINE_WEBHOOK_URL")
    written = text(environ, "HOLDLINE_WEBHOOK_SECRET")
    if not url:
        return None
    parts = urlsplit(url)
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes or not parts.hostname or "@" in parts.netloc:
        raise ConfigError(
            "HOLDLINE_WEBHOOK_URL must be an https:// URL without a user name or password; "
            "http:// requires HOLDLINE_WEBHOOK_ALLOW_PRIVATE=1"
        )
    try:
        keys = read_secrets(written)
    except ValueError as error:
        raise ConfigError(f"HOLDLINE_WEBHOOK_SECRET: {error}") from None
    if not keys:
        raise ConfigError(
            "HOLDLINE_WEBHOOK_URL requires HOLDLINE_WEBHOOK_SECRET, for example "
            "whsec_$(openssl rand -base64 32)"
        )
    return Receiver(url, keys, private)


def _single(usual: Endpoint, environ: Mapping[str, str]) -> Endpoint:
    """Returns the only endpoint of a worker that has no models file.

    Raises: ConfigError.
    """
    base_url = text(environ, "OPENAI_BASE_URL")
    key = text(environ, "OPENAI_API_KEY")
    if not base_url and not key:
        raise ConfigError(
            "no model is configured: set OPENAI_API_KEY to use OpenAI, OPENAI_BASE_URL to use "
            "another compatible endpoint, or HOLDLINE_MODELS to use several models"
        )
    if base_url and urlsplit(base_url).scheme not in ("http", "https"):
        raise ConfigError("OPENAI_BASE_URL must begin with http:// or https://")
    return replace(usual, base_url=base_url or None, api_key=key or NO_KEY)


def _endpoint(name: str, model: Model, usual: Endpoint, environ: Mapping[str, str]) -> Endpoint:
    """Returns the endpoint of one entry of the models file. Raises: ConfigError."""
    key = environ.get(model.api_key_env, "").strip() if model.api_key_env else NO_KEY
    if not key:
        raise ConfigError(
            f"[models.{name}] api_key_env names {model.api_key_env}, which is not set"
        )
    if model.timeout_seconds is not None and model.timeout_seconds > usual.timeout_seconds:
        raise ConfigError(
            f"[models.{name}] timeout_seconds is {model.timeout_seconds:g}, which exceeds "
            f"HOLDLINE_MODEL_TIMEOUT_SECONDS={usual.timeout_seconds:g}; "
            "raise that setting for all processes first"
        )
    return Endpoint(
        name=name,
        upstream=model.model or name,
        base_url=model.base_url,
        api_key=key,
        api=model.api,
        concurrency=min(model.concurrency or usual.concurrency, usual.concurrency),
        first_token_seconds=model.first_token_seconds or usual.first_token_seconds,
        stall_timeout_seconds=model.stall_timeout_seconds or usual.stall_timeout_seconds,
        timeout_seconds=model.timeout_seconds or usual.timeout_seconds,
        fallbacks=model.fallbacks,
        price=model.price,
        rates=(model.requests_per_minute, model.tokens_per_minute),
        output_limit=model.output_limit,
        stream_options=model.stream_options,
        unsupported_tools=model.unsupported_tools,
        api_key_file=model.api_key_file,
        api_key_command=model.api_key_command,
        api_key_header=model.api_key_header,
        background=model.background,
        continues=model.continues,
        on_worker_death=model.on_worker_death,
        send_traceparent=usual.send_traceparent
        if model.send_traceparent is None
        else model.send_traceparent,
    )
