"""Appends the items of responses to their conversations, if another process has not done so.

A server appends the input items of a response, and a worker the output items. If one of them dies
first, the response stays pending in its conversation, and this module appends the missing items.
Appending the same items twice has no effect, so several processes may settle one response at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from .errors import Undecodable, UnknownResponse
from .log.codec import decode_event, job_of
from .log.events import TERMINAL_TYPES
from .log.log import read
from .names import names_of
from .record import Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .conversations import ConversationStore, Pending
    from .record import Job
    from .redis.pipe import Pipe

# A response is pending before it is submitted. If it does not exist after this time, its server has
# died before the submission, or the response has been deleted.
ABANDONED_MS: Final = 60_000


async def settle(
    pipe: Pipe, store: ConversationStore, conversation_id: str, pending: Iterable[Pending]
) -> bool:
    """Appends the missing items of a conversation's pending responses.

    Returns True if it has appended items or released a response. Raises: RedisTrouble.
    """
    done = await asyncio.gather(*(_settle(pipe, store, conversation_id, one) for one in pending))
    return any(done)


async def _settle(
    pipe: Pipe, store: ConversationStore, conversation_id: str, pending: Pending
) -> bool:
    id_ = pending.response_id
    status = await pipe.call("HGET", names_of(id_).job(id_), "status")
    if status is None:
        if pending.age_ms < ABANDONED_MS:
            return False
        await store.release(conversation_id, id_)
        return True
    found = Status(status.decode())
    final = found if found.ended else None
    if pending.asked and final is None:
        return False
    try:
        job, response = await _turn(pipe, id_, ended=final is not None)
    except (UnknownResponse, Undecodable):
        # If the encryption key is missing, a process that has it appends the items later.
        return False
    await store.append(
        conversation_id,
        id_,
        job.params["input"],
        response["output"],
        status=final,
        previous=job.continues,
        model=response["model"] or "",
    )
    return True


async def _turn(pipe: Pipe, response_id: str, *, ended: bool) -> tuple[Job, dict[str, Any]]:
    """Returns the job of a response, and the `output` and the `model` of its final snapshot.

    While the response is running, it has no output.

    Raises: UnknownResponse, Undecodable.
    """
    data = await pipe.call("HGET", names_of(response_id).job(response_id), "job")
    if data is None:
        raise UnknownResponse(response_id)
    job = job_of(response_id, data, pipe.cipher)
    if not ended:
        return job, {"output": [], "model": None}
    length = (await read(pipe, response_id, 0, max_entries=0)).length
    view = await read(pipe, response_id, length - 1)
    last: dict[str, Any] = decode_event(view.entries[-1]) if view.entries else {}
    if last.get("type") not in TERMINAL_TYPES:
        raise UnknownResponse(response_id)
    return job, last["response"]
