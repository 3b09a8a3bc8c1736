"""`truncation: "auto"`: earlier turns are left out until the input fits the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
    roles = [str(item.get("role", "")) for item in shown]
    rules = next((n for n, role in enumerate(roles) if role not in _RULES), len(roles))
    asked = max((n for n, role in enumerate(roles) if role == "user"), default=rules)
    if job.params.get("truncation") != "auto" or asked <= rules:
        return False
    cut = (rules + asked + 1) // 2
    # A turn begins with a message of the user: a result without its call would be refused.
    while roles[cut] != "user":
        cut += 1
    arguments[name] = shown[:rules] + shown[cut:]
    return True
