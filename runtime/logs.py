"""Structured logs: text on a terminal, JSON elsewhere. No prompt, answer or key is logged.

Each line has a constant message, `event`. Levels: `info` for a step in a life cycle, `warning` for
a fault from which the program recovers by itself, `error` for a fault that needs an operator.

A line has only these fields:

response_id     the response
attempt         number of the attempt at a model call or a webhook, from 1
turn_id         the earlier response whose turn is missing
cause           protocol code: why an attempt or a response ended, or why its job was given back
error           class of an error; for an unhandled one in a worker, also the function and the line
reason          explanation in words
exception       traceback of an unhandled error in a server, without the error's message
action          what an operator has to do
model           name of a model in the models file
partition       number of a partition
key_id          id of an API key or of an encryption key
setting         name of a setting
file            path of a file
path            path of an HTTP request
url             address at which a server listens
loop            name of a background loop
redis           version and persistence of Redis
status          HTTP status of a webhook's receiver
pid             process id of a child process
exit_status     exit status of a child process; negative for a signal
seconds         length of a pause, a delay or a grace period
retry_ms        time until the next attempt; null if there is none
queued_ms       time from the submission to the start of an attempt
first_token_ms  time from the start of a model call to its first token
model_ms        duration of a model call
total_ms        time from the submission to the end of an attempt
bytes           size of an attempt's output
processes       number of child processes
concurrency     number of jobs that a worker runs at once
jobs            number of jobs that a worker runs now
sockets         number of open WebSockets
requeued        number of jobs put back into the queue
closing         number of responses that a rescue ends
entries         number of entries in a dead list
dead_list       true if the response is now in the dead list
still_valid     true if the previous key is still used
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict


def configure() -> None:
    """Sets up logging for the process."""
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _format_traceback,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    # aiohttp logs the subprotocols that a client offers, and a browser's token is one of them.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # aiohttp logs the start of a header that is too long, and a token may be in it. Errors in a
    # handler are logged by `server.app.problems`.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def _format_traceback(_: object, __: str, line: EventDict) -> EventDict:
    """Replaces `exc_info` with a traceback. The error's message may hold a prompt or a key."""
    given = line.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given and sys.exception()
    if error:
        frames = "".join(traceback.format_tb(error.__traceback__))
        line["exception"] = f"{frames}{type(error).__name__}"
    return line


def described(error: Exception) -> str:
    """Returns the class of an error and the place where it was raised.

    Neither its message nor its traceback is included: both may hold a prompt or a key.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
