"""The models file, which `HOLDLINE_MODELS` names: what server and worker both know of each model.

    default = "fast"

    [models.fast]
    base_url = "http://127.0.0.1:11434/v1"
    fallbacks = ["large"]

A file without a model leaves it at that of `OPENAI_BASE_URL`, and any name is passed on to it. The
tables under `[prompts]` are decoded by the server alone, in `server/templates.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from .toml import InvalidTable, NonEmpty, Table, convert, invalid, parse

Api = Literal["chat", "responses"]
OutputLimit = Literal["max_tokens", "max_completion_tokens"]
CHAT: Final = "chat"
RESPONSES: Final = "responses"
MAX_CONCURRENCY: Final = 1000
DAY: Final = 86_400
AUTHORIZATION: Final = "Authorization"
# Only one of these can be where a key comes from.
KEY_SOURCES: Final = ("api_key_env", "api_key_file", "api_key_command")

# Names become parts of keys in Redis, so they hold no character that separates the parts.
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
        """The cost of these tokens, in millionths; `cached` are part of `input_`."""
        cheaper = self.input if self.cached_input is None else self.cached_input
        return (input_ - cached) * self.input + cached * cheaper + output * self.output


class Model(Table, frozen=True, kw_only=True):
    """One table under `[models]`. None stands for the setting of the process.

    `model` is the name that the endpoint knows, if it is another one. `api_key_env` names the
    environment variable with the key; `api_key_file` is a file that holds it and `api_key_command`
    a command that prints it, for keys that end; none of them if the endpoint needs none.
    `api_key_header` is where the key is sent, if not as a bearer token.

    `fallbacks` are asked in this order when the model cannot begin to answer. The provider's limits
    hold for all workers together; 0 is no limit. `output_limit` is the endpoint's name for the
    limit of an answer, if it is another one than that of its host; `stream_options` tells whether
    it takes that argument.
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
    concurrency: Annotated[int, Meta(ge=1, le=MAX_CONCURRENCY)] | None = None
    first_token_seconds: _Seconds | None = None
    stall_timeout_seconds: _Seconds | None = None
    timeout_seconds: Annotated[float, Meta(ge=0.1, le=DAY)] | None = None
    fallbacks: tuple[str, ...] = ()
    price: Price | None = None
    requests_per_minute: Annotated[int, Meta(ge=1, le=10**9)] = 0
    tokens_per_minute: Annotated[int, Meta(ge=1, le=10**12)] = 0

    def __repr__(self) -> str:
        """Without the URL, which may hold a password."""
        return f"Model(model={self.model!r}, api={self.api!r})"


@dataclass(frozen=True, slots=True)
class Catalog:
    """The content of a models file. Without `models` every name is passed on as it is.

    `prompts` are the tables under `[prompts]`, not decoded.
    """

    models: Mapping[str, Model] = field(default_factory=dict)
    default: str = ""
    prompts: Mapping[str, Any] = field(default_factory=dict)

    def knows(self, name: str) -> bool:
        """True for a name that a request may use."""
        return not self.models or name in self.models

    def apis(self, name: str) -> set[Api]:
        """The APIs of the endpoints that may answer for the model: its own, and its fallbacks'."""
        model = self.models.get(name)
        if model is None:
            return set()
        return {model.api, *(self.models[fallback].api for fallback in model.fallbacks)}

    def price(self, name: str) -> Price | None:
        """The model's price, if the file has one."""
        model = self.models.get(name)
        return model.price if model else None

    def queue_model(self, name: str) -> str:
        """The model in the name of its queue; "" where any model name may be used."""
        return name if name in self.models else ""


class _File(Table, frozen=True, kw_only=True):
    default: NonEmpty = ""
    models: dict[str, Any] = msgspec.field(default_factory=dict)
    prompts: dict[str, Any] = msgspec.field(default_factory=dict)


def catalog(text: str) -> Catalog:
    """Decodes a models file.

    Raises: InvalidTable, which names the line, or the table and the key.
    """
    file = parse(text, _File)
    models = {name: _model(name, values) for name, values in file.models.items()}
    for name, model in models.items():
        _check_fallbacks(name, model, models)
    if file.default and file.default not in models:
        raise invalid("", "default", f"is {file.default!r}, which is no model; {_known(models)}")
    return Catalog(models, file.default, file.prompts)


def _model(name: str, values: Any) -> Model:
    place = f"models.{name}"
    if not _NAME.fullmatch(name):
        raise InvalidTable(
            f"[{place}] is not a name for a model: 1 to 128 letters, digits and . _ : / @ + -"
        )
    model = convert(values, Model, place)
    sources = [source for source in KEY_SOURCES if values.get(source)]
    if len(sources) > 1:
        raise invalid(place, sources[1], f"is set beside {sources[0]}; a key has one source")
    if "api_key_command" in values and not "".join(model.api_key_command[:1]):
        raise invalid(place, "api_key_command", "must begin with the name of a program")
    if not model.base_url and not sources:
        raise invalid(
            place,
            "base_url",
            f"is missing; leave it out only for OpenAI, which needs {' or '.join(KEY_SOURCES)}",
        )
    return model


def _check_fallbacks(name: str, model: Model, models: Mapping[str, Model]) -> None:
    for index, fallback in enumerate(model.fallbacks):
        if fallback not in models:
            wrong = f"names {fallback!r}, which is no model; {_known(models)}"
        elif fallback == name or fallback in model.fallbacks[:index]:
            wrong = f"names {fallback!r} twice: each model is asked once"
        else:
            continue
        raise invalid(f"models.{name}", "fallbacks", wrong)


def _known(models: Mapping[str, Model]) -> str:
    return f"known: {', '.join(sorted(models))}" if models else "there is no [models] table"
