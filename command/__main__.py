"""Runs the command `holdline`. In a checkout, run it with `python -m command`."""

from __future__ import annotations

import sys
from typing import Final

INTERRUPTED: Final = 130


def main() -> int:
    """Runs the command and returns its exit status."""
    # The imports take up to a second on a busy machine, in which a user may press Ctrl-C.
    try:
        from runtime import command_line
        from runtime.first_process import end_at_sigterm

        from .root import holdline
    except KeyboardInterrupt:
        return INTERRUPTED
    end_at_sigterm()
    return command_line.run(holdline, "holdline")


if __name__ == "__main__":
    sys.exit(main())
