"""Defines what happens to a response whose worker dies or stops in the middle of the answer.

    continue    the next worker goes on with the answer if the model can, and otherwise begins again
    restart     the next worker begins the answer again
    fail        the response ends, and keeps its text so far

A request may choose one, and so may the table of its model in the models file. The setting
`HOLDLINE_ON_WORKER_DEATH` applies to all other responses.
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
# The key of a request's metadata with the choice of the request.
METADATA: Final = "holdline_on_worker_death"


def on_worker_death(
    params: Mapping[str, Any], of_model: OnWorkerDeath | None, default: OnWorkerDeath
) -> OnWorkerDeath:
    """Returns what applies to a request with these parameters.

    `of_model` is the choice of the requested model's table, and `default` the setting.
    """
    chosen: OnWorkerDeath | None = (params.get("metadata") or {}).get(METADATA)
    return chosen or of_model or default
