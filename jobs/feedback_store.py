"""Stores the feedback of users on responses.

The feedback is a field of the response's job, so it expires and is deleted with the response. The
script that stores a change also queues the webhook, which carries the feedback itself, because the
response may expire before the receiver is reachable again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import UnknownResponse
from .feedback import Feedback, feedback_of, kept_feedback
from .names import names_of
from .scripts import calls

if TYPE_CHECKING:
    from .redis.pipe import Pipe


class FeedbackStore:
    """The feedback on all responses. The methods raise RedisTrouble.

    The caller must have checked that the user may see the response. If `webhooks` is True, each
    change is reported by a webhook.
    """

    def __init__(self, pipe: Pipe, *, webhooks: bool) -> None:
        self._pipe = pipe
        self._webhooks = webhooks

    async def put(self, response_id: str, feedback: Feedback) -> int:
        """Stores feedback in the place of earlier feedback. Returns the number of changes so far.

        Raises: UnknownResponse.
        """
        names = names_of(response_id)
        call = calls.rate(
            job_key=names.job(response_id),
            feedback_key=names.feedback(response_id),
            queue_key=names.feedbacks,
            prefix=names.prefix,
            id=response_id,
            feedback=kept_feedback(response_id, feedback, self._pipe.cipher),
            webhook=int(self._webhooks),
        )
        changes: int = await self._pipe.run(call)
        if not changes:
            raise UnknownResponse(response_id)
        return changes

    async def get(self, response_id: str) -> Feedback:
        """Returns the feedback on a response, which is empty if there is none.

        Raises: EncryptionKeyMissing, Undecodable.
        """
        kept = await self._pipe.call("HGET", names_of(response_id).job(response_id), "feedback")
        return Feedback() if kept is None else feedback_of(response_id, kept, self._pipe.cipher)
