"""Checks the JSON types of the values in a request body.

Each check returns the value unchanged. Raises: Problem, which names the value's place in the body.
"""

from __future__ import annotations

from typing import Any

from server.api.problem import Problem, invalid


def mapping(value: Any, place: str) -> dict[str, Any]:
    """Returns the value if it is a JSON object."""
    if value is None:
        raise missing(place)
    if not isinstance(value, dict):
        raise invalid(place, f"'{place}' must be an object.")
    return value


def listing(value: Any, place: str) -> list[Any]:
    """Returns the value if it is a JSON array."""
    if not isinstance(value, list):
        raise invalid(place, f"'{place}' must be a list.")
    return value


def string(value: Any, place: str) -> str:
    """Returns the value if it is a JSON string."""
    if value is None:
        raise missing(place)
    if not isinstance(value, str):
        raise invalid(place, f"'{place}' must be a string.")
    return value


def flag(value: Any, place: str) -> bool:
    """Returns the value if it is true or false."""
    if not isinstance(value, bool):
        raise invalid(place, f"'{place}' must be true or false.")
    return value


def other_type(place: str, types: tuple[str, ...]) -> Problem:
    """Returns the error for an object whose `type` is not one of `types`."""
    message = f"'{place}.type' must be {' or '.join(types)}. Other types are not supported."
    return invalid(f"{place}.type", message, "unsupported_parameter")


def missing(place: str) -> Problem:
    """Returns the error for a body that lacks a required field."""
    return invalid(place, f"'{place}' is required.", "missing_required_parameter")


def unsupported(place: str) -> Problem:
    """Returns the error for a body with an unsupported field."""
    message = f"This value of '{place}' is not supported. Leave it out."
    return invalid(place, message, "unsupported_parameter")
