"""Keeps Ctrl-C from reaching make, if this process runs under make.

A terminal sends SIGINT to every process in its foreground process group when the user presses
Ctrl-C. If the group includes make, make exits with an error even if its child stops cleanly. The
child therefore makes its own process group the foreground group, and restores the previous group
when it ends.
"""

import contextlib
import os
import platform
import signal
import sys
from collections.abc import Iterator

from command.up.pdeathsig import die_with_parent


@contextlib.contextmanager
def alone_in_front() -> Iterator[None]:
    """If make runs this process, takes the foreground for this process alone; else does nothing.

    On Linux, this process also gets SIGTERM when make dies, because make cannot stop its child if
    it is killed with SIGKILL.
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
    # Ctrl-Z is ignored, because it would suspend only this process, and make would wait forever.
    stop = signal.signal(signal.SIGTSTP, lambda *_: None)
    os.setpgid(0, 0)
    _give_terminal_to(os.getpid())
    try:
        yield
    finally:
        _give_terminal_to(before)
        signal.signal(signal.SIGTSTP, stop)


def _give_terminal_to(group: int) -> None:
    # If a background process group calls tcsetpgrp, the kernel stops it with SIGTTOU, unless that
    # signal is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    with contextlib.suppress(OSError):
        os.tcsetpgrp(0, group)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])
