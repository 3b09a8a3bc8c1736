"""Validates feedback on a response, and builds its object."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from jobs.feedback import MAX_COMMENT, Feedback, Rating

from .validation import convert


class GiveFeedback(Struct, forbid_unknown_fields=True):
    """The body of a request. A rating of null takes an earlier rating back."""

    rating: Rating | None
    comment: Annotated[str, Meta(max_length=MAX_COMMENT)] | None = None


def feedback_in(body: dict[str, Any]) -> Feedback:
    """Returns the feedback in a body. Raises: Problem, which names the field."""
    given = convert(body, GiveFeedback)
    return Feedback(given.rating, given.comment or "")


def shown(response_id: str, feedback: Feedback) -> dict[str, Any]:
    """Returns the object of the feedback on a response."""
    return {
        "id": response_id,
        "object": "holdline.feedback",
        "rating": feedback.rating,
        "comment": feedback.comment,
    }
