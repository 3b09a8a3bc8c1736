from __future__ import annotations

from enum import Enum
from typing import Final


class Stop(Enum):
    """The reasons for which a worker stops a job.

    CANCEL      the client cancelled the response: the worker closes the model call, keeps the
                output and ends the response as cancelled
    GIVE_BACK   the worker is stopping: it closes the model call and returns the job to the front
                of the queue
    LOST        another worker may hold the job: the worker drops the job at once and writes
                nothing more to its log
    GONE        the response was deleted: the worker does the same, and also ends the model call at
                its endpoint
    """

    CANCEL = "cancel"
    GIVE_BACK = "give back"
    LOST = "lost"
    GONE = "gone"


# The reasons after which the worker no longer holds the job.
ENDED: Final = (Stop.LOST, Stop.GONE)
