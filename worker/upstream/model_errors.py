"""Defines the errors of model calls, and maps all exceptions to them.

Each error has a code, which is a key of `outcome.CAUSES`. The provider's own message is never
passed on, because it may contain a key, an address or the prompt.
"""

from __future__ import annotations

import time
from typing import Final

import aiohttp

from runtime.open_files import is_exhausted

from .client import StatusError
from .credentials import PAUSE_SECONDS, KeyUnavailable
from .deltas import ErrorInStream, Malformed
from .failures import LOST, Failure, classify, retry_after
from .sse import EventTooLarge

# The codes of permanent failures. Another attempt would fail in the same way.
FINAL: Final = frozenset(
    {
        "upstream_input_too_long",
        "upstream_model_not_found",
        "upstream_rejected",
        "upstream_unauthorized",
    }
)
# The failures after which an answer may be continued, although the endpoint cannot be reached.
AWAY: Final = frozenset({"upstream_busy", "upstream_key_unavailable", "upstream_unavailable"})
INTERNAL_ERROR: Final = 500
# The failures after which an answer may be continued.
CONTINUABLE: Final = AWAY | {
    "upstream_error",
    "upstream_stalled",
    "upstream_timeout",
    "upstream_truncated",
}


class ModelError(Exception):
    """A model call failed before or during the answer.

    `code` is a key of `outcome.CAUSES`, and `detail` is for the log. `retry_after` is the delay in
    seconds that the provider asked for. `parameter` names an optional argument that the endpoint
    has refused; without it, the endpoint may accept the request. `resumable` is True if the
    endpoint may still be generating the answer, so that the rest can be read later. `status` is the
    HTTP status of the error, or None if it had none.
    """

    parameter = ""
    resumable = False
    status: int | None = None

    def __init__(self, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retry_after = retry_after

    @property
    def is_away(self) -> bool:
        """True if the endpoint cannot be reached at present, or asks to wait.

        An endpoint that fails with `INTERNAL_ERROR` has received the request. Some endpoints fail
        in this way whenever they cannot continue an answer.
        """
        return self.code in AWAY and self.status != INTERNAL_ERROR

    @property
    def refuses_to_continue(self) -> bool:
        """True if the error means that the endpoint does not continue an answer."""
        return self.code in FINAL or self.status == INTERNAL_ERROR


class Refused(ModelError):
    """A permanent failure: another attempt of the same request would fail too."""


class Busy(ModelError):
    """The provider is busy.

    If `retry_after` is set, the request should be retried after that many seconds.
    """


class Broken(ModelError):
    """A temporary failure: the endpoint was unreachable or too slow, or its stream was invalid."""


class AnswerLost(Broken):
    """The endpoint has begun the answer and no longer has it. It cannot be read on."""

    def __init__(self, detail: str) -> None:
        super().__init__(LOST, detail)


class NotKept(AnswerLost):
    """An answer that an earlier call began cannot be continued.

    The endpoint no longer has an answer that it generated in the background, or does not let the
    model continue a text.
    """


class NoSuchRoute(Exception):
    """The endpoint does not have the route that was called."""


def translated(error: Exception, *, late: str, begun: bool = False) -> ModelError:
    """Returns the error of a model call for any exception.

    `late` is the code of a time-out. `begun` is True if the endpoint has begun the answer.
    """
    # aiohttp's reader keeps the error, whose traceback would keep the frames of this module in
    # memory.
    error.__traceback__ = None
    detail = type(error).__name__
    match error:
        case ModelError():
            return error
        case aiohttp.ServerTimeoutError():  # a TimeoutError, although it is not ours
            return Broken("upstream_unavailable", detail)
        case TimeoutError():
            kind = Refused if late == "upstream_over_time" else Broken
            return kind(late, "time limit exceeded")
        case Malformed():
            return Broken("upstream_malformed", detail)
        case ErrorInStream(error=content):
            return _failed(classify(content, begun=begun), detail, None)
        case StatusError(status=status, headers=headers, error=content):
            asked = retry_after(headers, time.time())
            failed = _failed(classify(content, status), f"{detail} {status}", asked)
            failed.status = status
            return failed
        case KeyUnavailable():
            return Broken("upstream_key_unavailable", str(error), PAUSE_SECONDS)
        case EventTooLarge():
            return Refused("output_too_long", detail)
        case _ if is_exhausted(error):
            return Broken("worker_exhausted", detail)
        case _:
            # All other errors count as unavailability, for example transport errors before or
            # during the stream.
            return Broken("upstream_unavailable", detail)


def _failed(failure: Failure, detail: str, asked: float | None) -> ModelError:
    asked = failure.retry_after if asked is None else asked
    if failure.code == "upstream_busy":
        return Busy(failure.code, detail, asked)
    if failure.code == LOST:
        return AnswerLost(detail)
    if failure.code not in FINAL:
        return Broken(failure.code, detail, asked)
    error = Refused(failure.code, detail)
    error.parameter = failure.parameter
    return error
