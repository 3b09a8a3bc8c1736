"""Makes a child process end with its parent, even if the parent is killed with SIGKILL.

On Linux the kernel signals the child (`PR_SET_PDEATHSIG`). On other systems this file is run as a
program: a process between the two that polls its parent process id.
"""

import ctypes
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import FrameType

PR_SET_PDEATHSIG = 1  # linux/prctl.h
WATCH_SECONDS = 0.1


def with_pdeathsig(
    argv: Sequence[str], pdeathsig: signal.Signals
) -> tuple[list[str], Callable[[], None] | None]:
    """Prepares a child that is sent `pdeathsig` when this process dies.

    Returns the arguments and the `preexec_fn` of the child.

    Start the child from the main thread: the kernel watches the *thread* that forked, and only the
    main thread lives as long as the process.
    """
    if platform.system() == "Linux":
        return list(argv), die_with_parent(pdeathsig, os.getpid())
    return [sys.executable, __file__, str(pdeathsig.value), str(os.getpid()), *argv], None


def die_with_parent(pdeathsig: signal.Signals, parent: int) -> Callable[[], None]:
    """Returns the `preexec_fn` of a child that is sent `pdeathsig` when `parent` dies."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def set_pdeathsig() -> None:
        prctl(PR_SET_PDEATHSIG, pdeathsig.value)
        if os.getppid() != parent:  # The parent died before the call above took effect.
            os._exit(1)

    return set_pdeathsig


def watch(argv: Sequence[str], pdeathsig: signal.Signals, parent: int) -> int:
    """Runs `argv` until it ends or `parent` has died, and passes signals on to it.

    Returns the exit status of `argv`.
    """
    child = subprocess.Popen(argv, close_fds=False)

    def pass_on(number: int, _frame: FrameType | None) -> None:
        child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    while (status := child.poll()) is None:
        if os.getppid() != parent:
            child.send_signal(pdeathsig)
            return child.wait()
        time.sleep(WATCH_SECONDS)
    # An exit status cannot be negative. Like shells, use 128 + n for a death by signal n.
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(watch(sys.argv[3:], signal.Signals(int(sys.argv[1])), int(sys.argv[2])))
