"""`truncation: "auto"`: earlier turns are left out until the input fits the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .chat.messages import holds_result

if TYPE_CHECKING:
    from jobs.record import Job

_RULES: Final = ("system", "developer")


def shorten(job: Job, arguments: dict[str, Any]) -> bool:
    """Takes the older half of the turns out of the arguments, if the request allows that.

    Returns False if nothing can be taken: the input of this turn stays, and so do the rules before
    it. The arguments are those of either API.
    """
    name = "messages" if "messages" in arguments else "input"
    shown: list[dict[str, Any]] = arguments[name]
    rules = next((n for n, one in enumerate(shown) if one.get("role") not in _RULES), len(shown))
    turns = [n for n in _turns(shown) if n > rules]
    if job.params.get("truncation") != "auto" or not turns:
        return False
    half = (rules + turns[-1] + 1) // 2
    cut = next(n for n in turns if n >= half)
    arguments[name] = shown[:rules] + shown[cut:]
    return True


def _turns(shown: list[dict[str, Any]]) -> list[int]:
    """Where turns begin: with what the user says, unless a result of a call before it follows.

    A result without its call would be refused.
    """
    ends = _results(shown)
    begun: list[int] = []
    until = 0  # where the last result of the calls so far is
    for n, one in enumerate(shown):
        until = max(until, ends.get(n, 0))
        if one.get("role") == "user" and n >= until and not holds_result(one):
            begun.append(n)
    return begun


def _results(shown: list[dict[str, Any]]) -> dict[int, int]:
    """The index of the result of each call that is an item, by the index of the call."""
    following: dict[str, int] = {}  # id -> its next result
    ends: dict[int, int] = {}
    for n, one in reversed(list(enumerate(shown))):
        if one.get("type") == "function_call_output":
            following[one["call_id"]] = n
        elif one.get("type") == "function_call" and one["call_id"] in following:
            ends[n] = following[one["call_id"]]
    return ends
