"""Keeps Ctrl-C from make, when this process runs under make.

A terminal sends the signal of Ctrl-C to every process in its foreground process group. That
includes make, which then exits with an error even if its child stopped cleanly. So the child makes
its own process group the foreground group, and restores the previous group when it is done.
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
    """Makes this process the foreground process group; does nothing without make.

    On Linux it also requests SIGTERM for this process when make dies, because a make that is killed
    with SIGKILL cannot stop its child.
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
    # Ctrl-Z would stop this process while make and the shell wait for it.
    stop = signal.signal(signal.SIGTSTP, lambda *_: None)
    os.setpgid(0, 0)
    _give_terminal_to(os.getpid())
    try:
        yield
    finally:
        _give_terminal_to(before)
        signal.signal(signal.SIGTSTP, stop)


def _give_terminal_to(group: int) -> None:
    # SIGTTOU would stop a background process group that calls tcsetpgrp, unless it is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, group)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])
