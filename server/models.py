"""Lists the models that a request may use, and checks the model of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .access.principal import EVERYBODY
from .api.problem import Problem, name_list

if TYPE_CHECKING:
    from jobs.config.models import Catalog

    from .access.principal import Principal


def listed(catalog: Catalog, who: Principal = EVERYBODY) -> list[dict[str, Any]]:
    """Returns the standard's model objects of all models that the principal may use.

    The models are those of the models file. Without a models file they are the default model and
    the models that the principal's credential names.
    """
    known = set(catalog.models) or ({catalog.default} if catalog.default else set())
    if not catalog.models:
        known |= who.models or set()
    return [_shown(name) for name in sorted(known) if who.may_use_model(name)]


def found(catalog: Catalog, name: str, who: Principal = EVERYBODY) -> dict[str, Any]:
    """Returns the standard's model object for a model name.

    Raises: Problem.
    """
    for model in listed(catalog, who):
        if model["id"] == name:
            return model
    raise _not_found(catalog, name, who)


def check(catalog: Catalog, name: str, who: Principal = EVERYBODY) -> None:
    """Raises Problem if a request may not use this model; the error says that it does not exist."""
    if not catalog.knows(name) or not who.may_use_model(name):
        raise _not_found(catalog, name, who)


def _shown(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "holdline"}


def _not_found(catalog: Catalog, name: str, who: Principal) -> Problem:
    named = name_list([model["id"] for model in listed(catalog, who)])
    return Problem(
        404,
        "model_not_found",
        f"Model '{name[:64]}' not found. Available models: {named or 'none'}.",
        param="model",
    )
