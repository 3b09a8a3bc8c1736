"""Compares the clock of this machine with the clock of Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from server.access.jwt import LEEWAY_SECONDS

from .findings import broken, ok, warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .findings import Context, Finding

MAX_OFFSET_SECONDS: Final = 1.0
COMMAND: Final = "timedatectl status; chronyc tracking"


async def offset(context: Context) -> AsyncIterator[Finding]:
    """Compares the clocks. Only the expiry of tokens and API keys depends on this machine's."""
    closed = context.server is not None and context.server.access.closed
    for node in context.nodes:
        began = time.time()
        seconds, micros = await node.pipe.call("TIME")
        ended = time.time()
        delay = (ended - began) / 2
        difference = began + delay - (int(seconds) + int(micros) / 1e6)
        ahead = "ahead of" if difference > 0 else "behind"
        seen = (
            f"{node.label}this machine's clock is {abs(difference):.3f} s {ahead} that of Redis "
            f"(± {delay:.3f} s)"
        )
        if abs(difference) > LEEWAY_SECONDS + delay and closed:
            why = (
                f"servers accept expired tokens or refuse valid ones; they allow {LEEWAY_SECONDS:g}"
                " s between their clock and that of the signer"
            )
            yield broken(seen, why, COMMAND, "G9")
        elif abs(difference) > MAX_OFFSET_SECONDS + delay:
            why = "times in log lines differ from those in Redis, and tokens expire early or late"
            yield warning(seen, why, COMMAND, "G13")
        else:
            yield ok(seen)
