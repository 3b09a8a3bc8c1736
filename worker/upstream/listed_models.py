"""Asks the endpoint of a model for its list of models, which costs no tokens."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from .client import DecodingError, ModelClient, StatusError, iter_body
from .deltas import Malformed, parse
from .model_errors import translated

if TYPE_CHECKING:
    from worker.config import Endpoint

MAX_BYTES: Final = 4 * 1_048_576
# The statuses with which endpoints refuse a route that they do not have.
_NO_ROUTE: Final = (404, 405, 501)


class NoList(Exception):
    """The endpoint's reply is not a list of models. The message says why and quotes nothing."""


async def listed_models(endpoint: Endpoint, seconds: float) -> set[str]:
    """Returns the names of the models that an endpoint lists.

    The request has the same key, headers and proxy as a model call.

    Raises: NoList; ModelError, for example after `seconds`.
    """
    try:
        async with asyncio.timeout(seconds), ModelClient(endpoint, "/models") as client:
            return await _listed(client)
    except NoList:
        raise
    except StatusError as error:
        if error.status in _NO_ROUTE:
            raise NoList(f"the endpoint replied with status {error.status}") from None
        raise translated(error, late="upstream_timeout") from None
    except Exception as error:  # noqa: BLE001 - as for a model call
        raise translated(error, late="upstream_timeout") from None


async def _listed(client: ModelClient) -> set[str]:
    body = bytearray()
    async with await client.send(None) as response:
        try:
            async for piece in iter_body(response):
                body += piece
                if len(body) > MAX_BYTES:
                    raise NoList(f"the reply has more than {MAX_BYTES} bytes")
            return _names(parse(bytes(body)))
        except (Malformed, DecodingError):
            raise NoList("the reply is not JSON") from None


def _names(found: Any) -> set[str]:
    """Returns the ids in a list of models, which some endpoints return without an object."""
    listed = found.get("data", found.get("models")) if isinstance(found, dict) else found
    if not isinstance(listed, list):
        raise NoList("the reply has no list of models")
    ids = (one.get("id") or one.get("name") for one in listed if isinstance(one, dict))
    return {name for name in ids if isinstance(name, str)}
