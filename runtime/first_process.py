"""Ends the first process of a container if it is stopped before it has a handler of its own."""

from __future__ import annotations

import os
import signal


def end_at_sigterm() -> None:
    """Lets SIGTERM end the first process of a container, until `handle_stop` replaces the handler.

    The kernel discards a signal without a handler if it is sent to such a process. A worker that is
    stopped during its start would run on, claim jobs, and be killed with them later.
    """
    if os.getpid() == 1:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
