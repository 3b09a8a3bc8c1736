"""Finds the process that has a connection, from Linux's tables of sockets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TABLES: Final = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def group_of_port(port: int) -> int | None:
    """Returns the process group that has an open connection with this local port, or None.

    None also means that the system has no such tables.
    """
    inodes = {inode for table in _TABLES if table.exists() for inode in _inodes(table, port)}
    if not inodes:
        return None
    names = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if any(str(one.readlink()) in names for one in (process / "fd").iterdir()):
                    return os.getpgid(int(process.name))
            except OSError:
                continue  # it has ended, or belongs to another user
    return None


def _inodes(table: Path, port: int) -> list[str]:
    """Returns the inodes of the connections whose local port is this one."""
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return [row[9] for row in rows if int(row[1].rpartition(":")[2], 16) == port and row[9] != "0"]
