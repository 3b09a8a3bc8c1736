"""Structured logs: text on a terminal, JSON elsewhere. No prompt, answer or key is logged."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog


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
            structlog.processors.format_exc_info,
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


def described(error: Exception) -> str:
    """Returns the class of an error and the place where it was raised.

    Neither its message nor its traceback is included: both may hold a prompt or a key.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
