"""Under make, Ctrl-C is ours alone.

A terminal sends Ctrl-C to every process of its foreground group, make among them, and make then
ends with a failure of its own, however cleanly its child stopped. So the child makes itself the
foreground group, and gives the place back when it is done.
"""

import contextlib
import os
import platform
import signal
import sys
from collections.abc import Iterator

from .pdeathsig import die_with_parent


@contextlib.contextmanager
def alone_in_front() -> Iterator[None]:
    """Takes the terminal from make while the block runs; does nothing where no make is above us.

    Also ties us to make, which, killed hard, could not tell us to stop.
    """
    if "MAKELEVEL" not in os.environ:
        yield
        return
    if platform.system() == "Linux":
        die_with_parent(signal.SIGTERM, os.getppid())()
    if not sys.stdin.isatty() or os.tcgetpgrp(0) != os.getpgrp():
        yield
        return
    before = os.getpgrp()
    # Ctrl-Z would stop us and leave make, and the shell behind it, waiting.
    stop = signal.signal(signal.SIGTSTP, lambda *_: None)
    os.setpgid(0, 0)
    _give_terminal_to(os.getpid())
    try:
        yield
    finally:
        _give_terminal_to(before)
        signal.signal(signal.SIGTSTP, stop)


def _give_terminal_to(group: int) -> None:
    # A group in the background that does this is stopped by SIGTTOU, unless it blocks the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, group)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])
