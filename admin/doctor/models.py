"""Checks that the endpoints of the models can be reached, accept their keys and list the models."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from jobs.config.shared_config import hide
from worker.upstream.listed_models import NoList, listed_models
from worker.upstream.model_errors import Busy, ModelError

from .findings import WORKER, broken, ok, unknown, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from worker.config import Endpoint

    from .findings import Context, Finding

SECONDS: Final = 5.0
AT_ONCE: Final = 8
ASK: Final = "holdline check --program worker --ask-models  # its providers may bill a few tokens"


async def endpoints(context: Context) -> AsyncIterator[Finding]:
    """Asks each endpoint for its list of models. No prompt is sent."""
    if WORKER not in context.programs:
        return
    if context.worker is None:
        yield unknown("the settings of the worker are invalid", "holdline check --program worker")
        return
    found = list(context.worker.endpoints.values())
    if context.worker.single is not None:
        found = [context.worker.single]
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(endpoint: Endpoint) -> Finding:
        async with slots:
            return await _asked(endpoint, context.environ.get("HOLDLINE_MODEL", ""))

    for finding in await asyncio.gather(*map(ask, found)):
        yield finding


async def _asked(endpoint: Endpoint, default: str) -> Finding:
    name = endpoint.upstream or default
    at = hide(endpoint.base_url) if endpoint.base_url else "OpenAI's endpoint"
    place = f"{endpoint.name or default or 'the model'} at {at}"
    began = time.monotonic()
    try:
        listed = await listed_models(endpoint, SECONDS)
    except NoList as error:
        return unknown(f"{place}: {error}, so the key and the model are not checked", ASK)
    except Busy as error:
        return unknown(
            f"{place} is busy: {error.code}, so the key and the model are not checked", ASK
        )
    except ModelError as error:
        why = "calls of this model fail, unless a fallback takes over"
        command = "holdline check --program worker --ask-models"
        return broken(f"{place} failed: {error.code} ({error.detail})", why, command, "G1")
    took = f"{1000 * (time.monotonic() - began):.0f} ms"
    if name and name not in listed:
        why = "if the endpoint does not know the model, its calls fail"
        return warning(f"{place}: answered in {took}, but does not list {name}", why, ASK, "G1")
    shown = (
        f"the key is accepted and {name} is listed" if name else f"{len(listed)} models are listed"
    )
    return ok(f"{place}: {shown}, in {took}")
