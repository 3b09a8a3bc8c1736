"""Reads the contents of a response for an operator, whoever the owner is, and records each view."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import structlog

from jobs.audit import new_change
from jobs.errors import UnknownResponse
from jobs.names import Partition, partition_of
from server.api.schema.console import Contents

if TYPE_CHECKING:
    from jobs.audit import AuditLog
    from jobs.redis.pipe import Pipe
    from server.access.principal import Principal
    from server.responses import Responses

log = structlog.get_logger()


class ContentsReader:
    """Reads the input and the output of any response."""

    def __init__(self, pipe: Pipe, responses: Responses, audit: AuditLog) -> None:
        self._pipe = pipe
        self._responses = responses
        self._audit = audit

    async def read(self, who: Principal, response_id: str) -> Contents:
        """Returns the contents of a response.

        The view is recorded in the audit log before the contents are read. So if it cannot be
        recorded, nothing is shown. Raises: UnknownResponse, Problem, RedisTrouble.
        """
        names = Partition(partition_of(response_id))
        owner = await self._pipe.call("HGET", names.job(response_id), "owner")
        if owner is None:
            raise UnknownResponse(response_id)
        operator, change = _name(who), new_change()
        await self._audit.append(
            {
                "change": change,
                "command": "console contents",
                "target": f"response {response_id}",
                "operator": operator,
                "user": "console",
                "host": socket.gethostname(),
                "before": "",
                "after": "",
            }
        )
        log.info("contents viewed", response_id=response_id, operator=operator)
        viewer = owner.decode()
        response = await self._responses.retrieve(viewer, response_id)
        items = await self._responses.input_items(viewer, response_id)
        await self._audit.append({"change": change, "after": "shown", "result": "done"})
        return Contents(response_id, items, response)


def _name(who: Principal) -> str:
    """Returns the id of an operator's API key, or the tenant and subject of its token."""
    return f"key {who.key_id}" if who.key_id else who.owner
