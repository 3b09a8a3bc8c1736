"""Installs the checkout below /opt/holdline in the mounts of a sandbox, for users of every kind.

The Python of a developer is often in a home folder, which units and containers cannot see.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from command.up.redis import installed
from tests.system import ROOT

REDIS = installed(os.environ.get("PATH")).path
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SOURCES = {
    "redis": REDIS.parent,
    "python": Path(sys.base_prefix),
    "packages": Path(sysconfig.get_path("purelib")),
    "src": ROOT,
}
COMMAND = f"""\
#!/bin/sh
export PYTHONPATH=/opt/holdline/src:/opt/holdline/packages LD_LIBRARY_PATH=/opt/holdline/python/lib
exec /opt/holdline/python/bin/{PYTHON} -m command "$@"
"""


def install(opt: Path) -> str:
    """Fills a folder, and returns the shell commands that mount it, with the checkout, as /opt."""
    place = opt / "holdline"
    (place / "bin").mkdir(parents=True)
    command = place / "bin/holdline"
    command.write_text(COMMAND)
    command.chmod(0o755)
    lines = []
    for name, source in SOURCES.items():
        (place / name).mkdir()
        lines.append(shlex.join(["mount", "--bind", str(source.resolve()), str(place / name)]))
    return "\n".join([*lines, shlex.join(["mount", "--rbind", str(opt), "/opt"])])


def no_namespaces() -> str:
    """Returns the reason why this machine cannot make a sandbox, or ""."""
    if os.geteuid() != 0:
        return "only root can make the namespaces"
    command = ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "true"]
    try:
        made = subprocess.run(command, check=False, timeout=10).returncode == 0
    except FileNotFoundError:
        made = False
    return "" if made else "this machine does not allow namespaces"


def first_child(pid: int) -> int | None:
    """Returns the process that `unshare --fork` has started, as it is numbered outside."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return None
    return int(children[0]) if children else None
