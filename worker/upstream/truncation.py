"""Implements `truncation: "auto"`: removes earlier turns until the input fits the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobs.turns import RULES, turns

from .chat.messages import holds_result

if TYPE_CHECKING:
    from jobs.record import Job


def shorten(job: Job, arguments: dict[str, Any]) -> bool:
    """Removes the older half of the conversation's turns, if the request allows truncation.

    Returns False if no turn can be removed. The input of the current turn and the instructions at
    the beginning always stay. `arguments` may be those of a chat completion or of the Responses
    API.
    """
    name = "messages" if "messages" in arguments else "input"
    shown: list[dict[str, Any]] = arguments[name]
    rules = next((n for n, one in enumerate(shown) if one.get("role") not in RULES), len(shown))
    begun = [n for n in turns(shown) if n > rules and not holds_result(shown[n])]
    if job.params.get("truncation") != "auto" or not begun:
        return False
    half = (rules + begun[-1] + 1) // 2
    cut = next(n for n in begun if n >= half)
    arguments[name] = shown[:rules] + shown[cut:]
    return True
