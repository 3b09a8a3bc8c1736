"""Decodes the models file, whose path is in the setting `HOLDLINE_MODELS`.

    default = "fast"

    [models.fast]
    base_url = "http://127.0.0.1:11434/v1"
    fallbacks = ["large"]

If the file lists no models, workers call the endpoint of `OPENAI_BASE_URL` and pass every model
name on to it. This module does not decode the tables under `[prompts]`: `server/templates.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from jobs.worker_death import OnWorkerDeath

from .toml import InvalidTable, NonEmpty, Table, convert, invalid, parse

Api = Literal["chat", "responses"]
OutputLimit = Literal["max_tokens", "max_completion_tokens"]
UnsupportedTools = Literal["refuse", "drop"]
Continues = Literal["vllm", "prefix", "assistant"]
CHAT: Final = "chat"
RESPONSES: Final = "responses"
MAX_CONCURRENCY: Final = 1000
DROP: Final = "drop"
DAY: Final = 86_400
AUTHORIZATION: Final = "Authorization"
# The keys of a model's table that name the source of its API key. A model may have at most one of
# them.
KEY_SOURCES: Final = ("api_key_env", "api_key_file", "api_key_command")

# The pattern of a model name. Redis keys contain model names, so a name must not contain `|`, which
# separates the parts of a key.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)

_Url = Annotated[
    str, Meta(pattern=r"^(?i:https?)://", description="a URL that begins with http:// or https://")
]
_Variable = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z",
        description="the name of an environment variable, not a key",
    ),
]
_Header = Annotated[
    str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}\Z", description="the name of a header")
]
_Money = Annotated[float, Meta(ge=0, le=1e6)]
_Seconds = Annotated[float, Meta(ge=0.05, le=DAY)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The price of a million tokens, in the operator's currency."""

    input: _Money
    output: _Money
    cached_input: _Money | None = None

    def of(self, input_: int, output: int, cached: int = 0) -> float:
        """Returns the cost of a response in millionths of the currency.

        The arguments are its numbers of input, output and cached input tokens. `input_` includes
        `cached`.
        """
        cheaper = self.input if self.cached_input is None else self.cached_input
        return (input_ - cached) * self.input + cached * cheaper + output * self.output


class Model(Table, frozen=True, kw_only=True):
    """The settings of one model: a table under `[models]` in the models file.

    If `concurrency` or a timeout is None, the worker's setting for all models applies. `model` is
    the endpoint's name for the model, if it differs from the table's name. `api_key_env` names the
    environment variable with the API key. For keys that expire, `api_key_file` is a file that
    contains the key, or `api_key_command` a command that prints it. An endpoint without a key has
    none of these three. `api_key_header` is the header that contains the key; by default, the key
    is sent as a bearer token.

    If the model cannot begin to answer, the worker tries the models in `fallbacks`, in this order.
    The provider's limits, `requests_per_minute` and `tokens_per_minute`, apply to all workers
    together; 0 means no limit. `output_limit` is the endpoint's name for the limit of output
    tokens, if it differs from the name that its host usually expects. `stream_options` is False for
    an endpoint that rejects the argument `stream_options`. `unsupported_tools` says what happens to
    tools and items that a chat-completions endpoint cannot express: the request is refused, or they
    are left out of the call. The setting of the requested model also applies to its fallbacks.
    `background` is True if the endpoint can generate a response in the background and send its
    events again, so that no answer is lost with a worker or a connection. `continues` is the format
    in which a chat-completions endpoint accepts an unfinished text to continue, or None if it
    cannot. `on_worker_death` is the policy for the responses of this model, even if a fallback
    answers, or None if the setting applies. `send_traceparent` is True if the endpoint gets the
    context of the trace, or None if the setting applies.
    """

    base_url: _Url | None = None
    model: NonEmpty | None = None
    api_key_env: _Variable = ""
    api_key_file: NonEmpty = ""
    api_key_command: tuple[str, ...] = ()
    api_key_header: _Header = AUTHORIZATION
    api: Api = CHAT
    output_limit: OutputLimit | None = None
    stream_options: bool = True
    unsupported_tools: UnsupportedTools = "refuse"
    background: bool = False
    continues: Continues | None = None
    on_worker_death: OnWorkerDeath | None = None
    send_traceparent: bool | None = None
    concurrency: Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None = None
    first_token_seconds: _Seconds | None = None
    stall_timeout_seconds: _Seconds | None = None
    timeout_seconds: Annotated[float, Meta(ge=0.1, le=DAY)] | None = None
    fallbacks: tuple[str, ...] = ()
    price: Price | None = None
    requests_per_minute: Annotated[int, Meta(ge=1, le=10**9)] = 0
    tokens_per_minute: Annotated[int, Meta(ge=1, le=10**12)] = 0

    def __repr__(self) -> str:
        """Returns a description of the model without its URL, which may contain a password."""
        return f"Model(model={self.model!r}, api={self.api!r})"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The content of a models file.

    If `models` is empty, requests may use any model name, and it is passed on unchanged. `prompts`
    contains the tables under `[prompts]`, which are not decoded yet.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    default: str = ""
    prompts: Mapping[str, Any] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """Returns True if a request may use this model name."""
        return not self.models or name in self.models

    def apis(self, name: str) -> set[Api]:
        """Returns the APIs of all endpoints that may answer: those of the model and its fallbacks.

        Returns an empty set for a model that the file does not list.
        """
        model = self.models.get(name)
        if model is None:
            return set()
        return {model.api, *(self.models[fallback].api for fallback in model.fallbacks)}

    def drops(self, name: str) -> bool:
        """Returns True if requests for the model are answered without unsupported tools.

        The setting of the requested model also applies to its fallbacks.
        """
        model = self.models.get(name)
        return model is not None and model.unsupported_tools == DROP

    def on_worker_death(self, name: str) -> OnWorkerDeath | None:
        """Returns the policy in the table of a model, or None if the setting applies."""
        model = self.models.get(name)
        return model.on_worker_death if model else None

    def price(self, name: str) -> Price | None:
        """Returns the price of a model, or None if the models file does not state it."""
        model = self.models.get(name)
        return model.price if model else None

    def queue_model(self, name: str) -> str:
        """Returns the model for a queue name, or "" for a model that the file does not list."""
        return name if name in self.models else ""


class _File(Table, frozen=True, kw_only=True):
    default: NonEmpty = ""
    models: dict[str, Any] = msgspec.field(default_factory=dict)
    prompts: dict[str, Any] = msgspec.field(default_factory=dict)


def catalog(text: str) -> Catalog:
    """Decodes the text of a models file.

    Raises: InvalidTable, whose message names the line, or the table and the key.
    """
    file = parse(text, _File)
    models = {name: _model(name, values) for name, values in file.models.items()}
    for name, model in models.items():
        _check_fallbacks(name, model, models)
        _check_drop(name, model, models)
    if file.default and file.default not in models:
        raise invalid("", "default", f"is {file.default!r}, which is not a model; {_known(models)}")
    return Catalog(models, file.default, file.prompts)


def _model(name: str, values: Any) -> Model:
    place = f"models.{name}"
    if not _NAME.fullmatch(name):
        raise InvalidTable(
            f"[{place}] is not a valid name: use 1 to 128 letters, digits and . _ : / @ + -"
        )
    model = convert(values, Model, place)
    sources = [source for source in KEY_SOURCES if values.get(source)]
    if len(sources) > 1:
        raise invalid(place, sources[1], f"conflicts with {sources[0]}; set only one of them")
    if "api_key_command" in values and not "".join(model.api_key_command[:1]):
        raise invalid(place, "api_key_command", "must begin with the name of a program")
    if model.background and model.api != RESPONSES:
        raise invalid(place, "background", 'requires api = "responses"')
    if model.continues and model.api != CHAT:
        raise invalid(place, "continues", 'requires api = "chat"')
    if not model.base_url and not sources:
        raise invalid(
            place,
            "base_url",
            f"is missing; a model of OpenAI may omit it, but needs one of {', '.join(KEY_SOURCES)}",
        )
    return model


def _check_fallbacks(name: str, model: Model, models: Mapping[str, Model]) -> None:
    for index, fallback in enumerate(model.fallbacks):
        if fallback not in models:
            wrong = f"contains {fallback!r}, which is not a model; {_known(models)}"
        elif fallback == name or fallback in model.fallbacks[:index]:
            wrong = f"repeats {fallback!r}; a worker tries each model only once"
        else:
            continue
        raise invalid(f"models.{name}", "fallbacks", wrong)


def _check_drop(name: str, model: Model, models: Mapping[str, Model]) -> None:
    apis = {model.api, *(models[fallback].api for fallback in model.fallbacks)}
    if model.unsupported_tools == DROP and apis == {RESPONSES}:
        raise invalid(
            f"models.{name}",
            "unsupported_tools",
            'has no effect, because api = "responses" supports all tools',
        )


def _known(models: Mapping[str, Model]) -> str:
    return (
        f"known models: {', '.join(sorted(models))}" if models else "the file has no [models] table"
    )
