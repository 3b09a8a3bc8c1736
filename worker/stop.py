from __future__ import annotations

from enum import Enum


class Stop(Enum):
    """The reasons for which a worker stops a job.

    CANCEL      the client cancelled the response: the worker closes the model call, keeps the
                output and ends the response as cancelled
    GIVE_BACK   the worker is stopping: it closes the model call and returns the job to the front
                of the queue
    LOST        another worker may hold the job: the worker drops the job at once and writes
                nothing more to its log
    """

    CANCEL = "cancel"
    GIVE_BACK = "give back"
    LOST = "lost"
