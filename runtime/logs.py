"""Writes structured logs, as text or as JSON. No prompt, answer or key is logged.

Each line has a constant message in the field `event`. The level `info` marks a step in a life
cycle, `warning` a fault from which the program recovers by itself, and `error` a fault that needs
an operator.

A line has only these fields:

response_id     id of the response
trace_id        id of the trace to which the request or the response belongs
conversation_id  id of the conversation
attempt         number of the attempt at a model call or a webhook, from 1
turn_id         id of the earlier response whose turn is missing
cause           protocol code that says why an attempt or response ended, or why a job was returned
error           class of an error; for an unhandled error in a worker, also the function and line
reason          explanation in words
exception       traceback of an unhandled error in a server, without the error's message
action          step that the operator has to take
model           name of a model in the models file, or `other` for a name that a client chose
upstream_id     id that a model's endpoint has given to its answer
partition       number of a partition
key_id          id of an API key or of an encryption key
operator        id of an operator's API key, or the tenant and the subject of an operator's token
setting         name of a setting
file            path of a file
path            path of an HTTP request
url             address at which a server listens, or of a collector of traces
loop            name of a background loop
library         name of the logger of a library
redis           version and persistence of Redis
status          HTTP status of a reply to a request, or with which a webhook's receiver replied
route           method and path template of a request, or type of a WebSocket message
code            code of the error with which a request was refused
tenant          tenant that sent a request
subject_hash    keyed hash of the end user that sent a request
address         address of the client that sent a request
request_ms      time from the arrival of a request to the end of its reply
pid             process id of a child process
exit_status     exit status of a child process; negative if a signal killed the process
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
requeued        number of lost jobs that a rescue put back into the queue
closing         number of lost workers' responses that a rescue takes over and ends
entries         number of entries in a dead list
dead_list       true if the response is now in the dead list
still_valid     true if the model's previous API key is still used
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from typing import TYPE_CHECKING, Final, Literal

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

Format = Literal["auto", "text", "json"]
Level = Literal["info", "warning", "error"]
MAX_TEMPLATE_CHARACTERS: Final = 200
_WORDS: Final = re.compile(r"[A-Za-z_.,:;' -]*")

log = structlog.get_logger()


def configure(form: Format = "auto", level: Level = "info") -> None:
    """Configures the logging of this process. Lines below `level` are not written."""
    terminal = sys.stderr.isatty()
    rendering: list[Processor] = (
        [_escape_controls, structlog.dev.ConsoleRenderer(colors=terminal)]
        if form == "text" or (form == "auto" and terminal)
        else [structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _format_traceback,
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_LibraryHandler()], force=True)
    # aiohttp would log the subprotocols that a client offers. A browser sends its token as one of
    # these subprotocols, so these log lines are suppressed.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # aiohttp would log the beginning of a header that is too long, which may contain a token.
    # `server.http.errors` logs the errors of request handlers instead.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


class _LibraryHandler(logging.Handler):
    """Writes the log records of libraries in our own format.

    The arguments of a record may contain a prompt or a key, and so may an error's message. Only the
    constant part of the record's template and the class of the error are written.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record."""
        error = record.exc_info[1] if record.exc_info else None
        log.log(
            record.levelno,
            "message from a library",
            library=record.name,
            reason=_constant_part(str(record.msg)),
            error=error and type(error).__name__,
        )


def _constant_part(template: str) -> str:
    """Returns the beginning of a template up to its first value, such as `<Task …>` or `%r`."""
    found = _WORDS.match(template)
    return found[0].strip()[:MAX_TEMPLATE_CHARACTERS] if found else ""


def _format_traceback(_: object, __: str, line: EventDict) -> EventDict:
    """Replaces `exc_info` with a traceback that omits the error's message.

    The message may contain a prompt or a key.
    """
    given = line.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given and sys.exception()
    if error:
        frames = "".join(traceback.format_tb(error.__traceback__))
        line["exception"] = f"{frames}{type(error).__name__}"
    return line


def _escape_controls(_: object, __: str, line: EventDict) -> EventDict:
    """Replaces the control characters in values, such as a client's name of a model, with escapes.

    A terminal would execute control characters. The renderer of JSON escapes them itself.
    """
    for name, value in line.items():
        if isinstance(value, str) and name != "exception":  # a traceback has lines of source code
            line[name] = printable(value)
    return line


def printable(text: str) -> str:
    """Returns the text with escapes in the place of control characters.

    A terminal would execute control characters, and a line break would look like another entry.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def printable_lines(text: str) -> str:
    """Returns the lines of a text, with escapes in the place of other control characters."""
    return "\n".join(map(printable, text.split("\n")))


def described(error: Exception) -> str:
    """Returns the class of an error, and the function and line that raised it.

    The error's message and traceback are omitted, because both may contain a prompt or a key.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
