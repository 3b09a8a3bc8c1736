"""Checks the shapes of values in a body, and names the place of one that is wrong.

Each check returns the value as it is. Raises: Problem.
"""

from __future__ import annotations

from typing import Any

from server.api.problem import Problem, invalid


def mapping(value: Any, place: str) -> dict[str, Any]:
    """The value, which must be an object."""
    if value is None:
        raise missing(place)
    if not isinstance(value, dict):
        raise invalid(place, f"'{place}' must be an object.")
    return value


def listing(value: Any, place: str) -> list[Any]:
    """The value, which must be a list."""
    if not isinstance(value, list):
        raise invalid(place, f"'{place}' must be a list.")
    return value


def string(value: Any, place: str) -> str:
    """The value, which must be a string."""
    if value is None:
        raise missing(place)
    if not isinstance(value, str):
        raise invalid(place, f"'{place}' must be a string.")
    return value


def flag(value: Any, place: str) -> bool:
    """The value, which must be true or false."""
    if not isinstance(value, bool):
        raise invalid(place, f"'{place}' must be true or false.")
    return value


def other_type(place: str, types: tuple[str, ...]) -> Problem:
    """The refusal of an object whose `type` is none of these."""
    message = f"'{place}.type' must be {' or '.join(types)}: nothing else is supported here."
    return invalid(f"{place}.type", message, "unsupported_parameter")


def missing(place: str) -> Problem:
    """The refusal of a body that lacks a required field."""
    return invalid(place, f"'{place}' is required.", "missing_required_parameter")


def unsupported(place: str) -> Problem:
    """The refusal of a field that cannot be served."""
    message = f"'{place}' asks for what is not supported here. Leave it out."
    return invalid(place, message, "unsupported_parameter")
