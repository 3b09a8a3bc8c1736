"""Checks that a request is allowed, expands its prompt template and derives its job settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from jobs import worker_death

from . import capabilities, models
from .api.problem import invalid
from .api.request import params_of
from .templates import allowed, expanded

if TYPE_CHECKING:
    from jobs.config.models import Catalog
    from jobs.worker_death import OnWorkerDeath

    from .access.principal import Principal
    from .api.request import Create
    from .templates import Templates

ON_ORPHAN: Final = {"cancel": True, "go_on": False}


def admitted(
    create: Create,
    who: Principal,
    catalog: Catalog,
    templates: Templates,
    max_context_bytes: int,
) -> tuple[Create, dict[str, Any]]:
    """Returns the request with its template expanded, and the parameters of its job.

    Raises: Problem.
    """
    own = len(create.items)
    create = expanded(create, allowed(templates, who.may_use_prompt), max_context_bytes)
    params = params_of(create, catalog.default)
    models.check(catalog, params["model"], who)
    capabilities.check(catalog, create, params, who, first=len(create.items) - own)
    return create, params


def fails_on_death(create: Create, of_model: OnWorkerDeath | None) -> bool | None:
    """Returns True if a worker's death fails the response, or None to use the server's setting.

    `of_model` is the policy of the requested model. Raises: Problem.
    """
    word = (create.metadata or {}).get(worker_death.METADATA)
    if word is not None and word not in worker_death.CHOICES:
        allowed_words = " or ".join(map(repr, worker_death.CHOICES))
        message = f"'{worker_death.METADATA}' must be {allowed_words}."
        raise invalid(f"metadata.{worker_death.METADATA}", message)
    chosen = word or of_model
    return None if chosen is None else chosen == worker_death.FAIL


def cancels_orphan(create: Create) -> bool | None:
    """Returns True if a response without followers is cancelled, or None to use the setting.

    A background response is never cancelled for this reason. Raises: Problem.
    """
    word = (create.metadata or {}).get("holdline_on_orphan")
    if word is not None and word not in ON_ORPHAN:
        message = "'holdline_on_orphan' must be 'go_on' or 'cancel'."
        raise invalid("metadata.holdline_on_orphan", message)
    if create.background:
        return False
    return None if word is None else ON_ORPHAN[word]
