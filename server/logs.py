"""Log lines for people in a terminal, JSON elsewhere. No prompt, answer or key is ever logged."""

from __future__ import annotations

import logging
import sys

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
    # It repeats the subprotocols that a client offers, and a browser's token is one of them.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # It repeats the beginning of a header that is too long, and a token may stand in it. What goes
    # wrong in a handler is said by `app.problems`.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
