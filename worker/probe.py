"""Sends each model a short test prompt, for `holdline check --ask-models`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from jobs.ids import new_response_id
from jobs.record import Job

from .outcome import CAUSES
from .upstream.chat.messages import UnsupportedInput
from .upstream.model_errors import ModelError
from .upstream.router import Router

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .config import Config

# The Responses API accepts no lower value of `max_output_tokens`.
MAX_OUTPUT_TOKENS = 16


async def probe_models(config: Config) -> AsyncIterator[tuple[bool, str]]:
    """Sends a test prompt to each model, but not to its fallbacks.

    Yields one pair for each model: True if the model began to answer, and a line that reports the
    result.
    """
    async with Router(config) as router:
        for endpoint in [config.single] if config.single else config.endpoints.values():
            name = endpoint.name or config.model
            if not name:
                yield True, "model not tested: set HOLDLINE_MODEL"
                continue
            params = {"model": name, "input": "Say OK.", "max_output_tokens": MAX_OUTPUT_TOKENS}
            began = time.monotonic()
            try:
                await router.try_model(Job(new_response_id(0), "", 0, params), endpoint)
            except ModelError as error:
                yield False, f"{name} failed: {error.code} ({error.detail}). {_advice(error.code)}"
            except UnsupportedInput:
                yield False, f"{name} failed: its endpoint does not support the test prompt"
            else:
                yield True, f"{name} answered after {time.monotonic() - began:.1f} s"


def _advice(cause: str) -> str:
    return CAUSES[cause].message if cause in CAUSES else ""
