"""The models that a request may name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .problem import Problem

if TYPE_CHECKING:
    from jobs.models import Catalog

MOST_NAMED = 50


def listed(catalog: Catalog) -> list[dict[str, Any]]:
    """The standard's model objects: all models of the models file, or the default one."""
    default = [catalog.default] if catalog.default else []
    return [_shown(name) for name in sorted(catalog.models) or default]


def found(catalog: Catalog, name: str) -> dict[str, Any]:
    """The model object of a name.

    Raises: Problem.
    """
    for model in listed(catalog):
        if model["id"] == name:
            return model
    raise _not_found(catalog, name)


def check(catalog: Catalog, name: str) -> None:
    """Raises Problem for a name that a request may not use."""
    if not catalog.knows(name):
        raise _not_found(catalog, name)


def _shown(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "holdline"}


def _not_found(catalog: Catalog, name: str) -> Problem:
    known = [model["id"] for model in listed(catalog)]
    named = ", ".join(known[:MOST_NAMED]) + (", ..." if len(known) > MOST_NAMED else "")
    return Problem(
        404,
        "model_not_found",
        f"There is no model '{name[:64]}' here. Known: {named or 'none by name'}.",
        param="model",
    )
