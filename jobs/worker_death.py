"""Defines the policies for a response whose worker dies or stops in the middle of the answer.

    continue    the next worker continues the answer if the model can, and otherwise restarts it
    restart     the next worker restarts the answer
    fail        the response fails, and keeps its output so far

The policy of the request takes precedence over the one in the model's table of the models file, and
this one over the setting `HOLDLINE_ON_WORKER_DEATH`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

OnWorkerDeath = Literal["continue", "restart", "fail"]
CONTINUE: Final = "continue"
RESTART: Final = "restart"
FAIL: Final = "fail"
CHOICES: Final[tuple[OnWorkerDeath, ...]] = get_args(OnWorkerDeath)
# The key in a request's metadata that selects the request's policy.
METADATA: Final = "holdline_on_worker_death"


def on_worker_death(
    params: Mapping[str, Any], of_model: OnWorkerDeath | None, default: OnWorkerDeath
) -> OnWorkerDeath:
    """Returns the policy for a request with these parameters.

    `of_model` is the policy in the requested model's table, or None. `default` is the setting.
    """
    chosen: OnWorkerDeath | None = (params.get("metadata") or {}).get(METADATA)
    return chosen or of_model or default
