"""Lists the tools and items that an endpoint of chat completions cannot use.

The items of a conversation are always left out, because an earlier turn may have been answered by
another model. Tools are left out only if the model's table sets `unsupported_tools = "drop"`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from jobs.config.models import CHAT
from jobs.summary import COMPACTION
from jobs.tools import chat_refusals, chat_refuses_item, sent_tools

if TYPE_CHECKING:
    from jobs.record import Job
    from worker.config import Endpoint


def left_out(job: Job, endpoint: Endpoint | None) -> dict[str, list[str]]:
    """Returns the types of the tools and items that were left out of the call to an endpoint.

    The keys of the result are members of the response's `holdline` object.
    """
    if endpoint is None or endpoint.api != CHAT:
        return {}
    asked = job.params.get("input")
    items = [*job.context, *(asked if isinstance(asked, list) else ())]
    tools = [*(job.params.get("tools") or ()), *itertools.chain(*map(sent_tools, items))]
    found = {
        "dropped_tools": [refused.kind for refused in chat_refusals(tools)],
        "dropped_items": [
            item["type"]
            for item in items
            # Holdline's own compaction items have already been replaced by messages.
            if item.get("type") == COMPACTION or chat_refuses_item(item.get("type", "message"))
        ],
    }
    return {name: sorted(set(types)) for name, types in found.items() if types}
