"""The models of `HOLDLINE_MODELS`: what server and worker must both know of each.

    default = "fast"

    [models.fast]
    base_url = "http://127.0.0.1:11434/v1"
    fallbacks = ["large"]

A file without a model leaves it at that of `OPENAI_BASE_URL`, and any name is passed on to it. The
tables under `[prompts]` are the server's: `server/templates.py` reads them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from .toml import Table, WrongTable, parse

if TYPE_CHECKING:
    from collections.abc import Mapping

CHAT: Final = "chat"
RESPONSES: Final = "responses"
MOST_CONCURRENCY: Final = 1000
DAY: Final = 86_400

# Names become parts of keys in Redis: nothing that could be taken for a separator is in one.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in a currency that is the operator's business."""

    input: float
    output: float
    cached_input: float | None = None

    def of(self, input_: int, output: int, cached: int = 0) -> float:
        """What so many tokens cost, in millionths; `cached` are part of `input_`."""
        cheaper = self.input if self.cached_input is None else self.cached_input
        return (input_ - cached) * self.input + cached * cheaper + output * self.output


@dataclass(frozen=True, slots=True)
class Model:
    """One model. Times in seconds; None is the setting of the process.

    `upstream` is what its endpoint calls it. `key_variable` names the environment variable that
    holds the key, "" where the endpoint wants none. `fallbacks` are asked in this order when the
    model cannot begin to answer. The provider's limits are for all workers together, 0 for none.
    """

    name: str
    upstream: str
    base_url: str | None = field(default=None, repr=False)
    key_variable: str = ""
    dialect: str = CHAT
    concurrency: int | None = None
    first_token: float | None = None
    silence: float | None = None
    total: float | None = None
    fallbacks: tuple[str, ...] = ()
    price: Price | None = None
    requests_per_minute: int = 0
    tokens_per_minute: int = 0


@dataclass(frozen=True, slots=True)
class Catalog:
    """What a models file says. Without `models` every name is passed on as it is."""

    models: Mapping[str, Model] = field(default_factory=dict)
    default: str = ""
    prompts: Table | None = None

    def knows(self, name: str) -> bool:
        """True for a name that a request may use."""
        return not self.models or name in self.models

    def price(self, name: str) -> Price | None:
        """What the model costs, where the file says so."""
        model = self.models.get(name)
        return model.price if model else None

    def model_lane(self, name: str) -> str:
        """The model as the queue tells it apart: "" where any name may be used."""
        return name if name in self.models else ""


def catalog(text: str) -> Catalog:
    """What the text of a models file says.

    Raises: WrongTable, which names the line, or the table and the key.
    """
    file = parse(text)
    default = file.text("default")
    tables = file.table("models")
    prompts = file.table("prompts")
    file.done()
    models = {name: _model(name, table) for name, table in tables.tables()} if tables else {}
    for model in models.values():
        _check_fallbacks(model, models)
    if default and default not in models:
        raise file.wrong("default", f"is {default!r}, which is no model; {_known(models)}")
    return Catalog(models, default, prompts)


def _model(name: str, table: Table) -> Model:
    if not _NAME.fullmatch(name):
        raise WrongTable(
            f"[{table.name}] is not a name for a model: 1 to 128 letters, digits and . _ : / @ + -"
        )
    base_url = table.text("base_url")
    if base_url and (urlsplit(base_url).scheme not in ("http", "https")):
        raise table.wrong("base_url", "must begin with http:// or https://")
    key_variable = table.text("api_key_env")
    if key_variable and not _VARIABLE.fullmatch(key_variable):
        # The likeliest mistake is the key itself: it must not be told to a log.
        raise table.wrong("api_key_env", "must be the name of an environment variable, not a key")
    if not base_url and not key_variable:
        raise table.wrong(
            "base_url", "is missing; leave it out only for OpenAI, which needs api_key_env"
        )
    concurrency = table.number("concurrency", 1, MOST_CONCURRENCY)
    if concurrency is not None and concurrency != int(concurrency):
        raise table.wrong("concurrency", "must be a whole number")
    model = Model(
        name=name,
        upstream=table.text("model", name),
        base_url=base_url or None,
        key_variable=key_variable,
        dialect=table.choice("dialect", CHAT, RESPONSES),
        concurrency=None if concurrency is None else int(concurrency),
        first_token=table.number("first_token_seconds", 0.05, DAY),
        silence=table.number("silence_seconds", 0.05, DAY),
        total=table.number("total_seconds", 0.1, DAY),
        fallbacks=table.texts("fallbacks"),
        price=_price(table.table("price")),
        requests_per_minute=int(table.number("requests_per_minute", 1, 1e9) or 0),
        tokens_per_minute=int(table.number("tokens_per_minute", 1, 1e12) or 0),
    )
    table.done()
    return model


def _price(table: Table | None) -> Price | None:
    if table is None:
        return None
    input_, output = table.number("input", 0, 1e6), table.number("output", 0, 1e6)
    cached = table.number("cached_input", 0, 1e6)
    if input_ is None or output is None:
        raise table.wrong("input" if input_ is None else "output", "is missing")
    table.done()
    return Price(input_, output, cached)


def _check_fallbacks(model: Model, models: Mapping[str, Model]) -> None:
    table = Table(f"models.{model.name}", {})
    for index, name in enumerate(model.fallbacks):
        if name not in models:
            raise table.wrong("fallbacks", f"names {name!r}, which is no model; {_known(models)}")
        if name == model.name or name in model.fallbacks[:index]:
            raise table.wrong("fallbacks", f"names {name!r} twice: each model is asked once")


def _known(models: Mapping[str, Model]) -> str:
    return f"known: {', '.join(sorted(models))}" if models else "there is no [models] table"
