"""Makes a child process end with its parent, even if the parent is killed with SIGKILL.

On Linux, the kernel sends a signal to the child (`PR_SET_PDEATHSIG`). On other systems, this file
runs as a program between parent and child, and polls the id of its parent process.
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
    """Returns the arguments and the `preexec_fn` for a child that must end with this process.

    The child gets the signal `pdeathsig` when this process dies. Start the child from the main
    thread, because the kernel sends the signal when the *thread* that forked ends, and only the
    main thread lives as long as the process.
    """
    if platform.system() == "Linux":
        return list(argv), die_with_parent(pdeathsig, os.getpid())
    return [sys.executable, __file__, str(pdeathsig.value), str(os.getpid()), *argv], None


def die_with_parent(pdeathsig: signal.Signals, parent: int) -> Callable[[], None]:
    """Returns a `preexec_fn` that lets the child get `pdeathsig` when `parent` dies."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def set_pdeathsig() -> None:
        prctl(PR_SET_PDEATHSIG, pdeathsig.value)
        if os.getppid() != parent:  # The parent died before prctl took effect.
            os._exit(1)

    return set_pdeathsig


def watch(argv: Sequence[str], pdeathsig: signal.Signals, parent: int) -> int:
    """Runs `argv` until it ends or `parent` has died, and passes signals on to the new process.

    Returns the exit status of the process.
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
    # An exit status cannot be negative. As in shells, 128 + n stands for a death by signal n.
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(watch(sys.argv[3:], signal.Signals(int(sys.argv[1])), int(sys.argv[2])))
