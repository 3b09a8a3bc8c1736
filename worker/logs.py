"""Log lines for people in a terminal, JSON elsewhere. No prompt, answer or key is ever logged."""

from __future__ import annotations

import logging
import sys
import traceback

import structlog


def configure() -> None:
    """Sets up logging once for the process."""
    renderer = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def described(error: Exception) -> str:
    """The class of an error and where it was raised.

    Not its message and not its traceback: either may hold a prompt or a key.
    """
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
