"""Distinguishes temporary error replies from final ones, which a retry would not change.

The first word of an error reply is its code. A few codes are final:

    NOPERM WRONGPASS WRONGTYPE   a wrong setting or wrong data
    ERR                          a wrong command, unless all connections are in use
    NOSCRIPT MOVED ASK           no failure: the pipe sends the command in another way

Every other code is temporary, until an operator, a failover or time resolves it: MISCONF,
NOREPLICAS, BUSY, LOADING, READONLY, and also unknown codes of future versions and proxies. If a
temporary error were treated as final, a response that only had to wait would be abandoned, while
retrying a final one costs some seconds. NOAUTH is temporary because an operator can remove the
password again; at the start `check` treats it as final.

With each of these errors the command was not executed. A script fails with them at its first write.
"""

from __future__ import annotations

import re
from typing import Final

from jobs.errors import RedisFull, RedisNotReady, RedisRefused

_FINAL: Final = {"NOPERM", "WRONGPASS", "WRONGTYPE", "ERR", "NOSCRIPT", "MOVED", "ASK"}
_ALL_CONNECTED: Final = "ERR max number of clients"
# Some servers wrap the error of a script's command in an error of their own:
# `ERR Error running script (call to f_…): @user_script:1: -MISCONF …`
_IN_SCRIPT: Final = re.compile(r"script.*?[ :.]-([A-Z]+)\b", re.DOTALL)


def exception_of(message: str) -> RedisFull | RedisNotReady | RedisRefused:
    """Returns the exception for an error reply."""
    code = message.partition(" ")[0]
    if code == "ERR" and (inner := _IN_SCRIPT.search(message)):
        code = inner[1]
    if code == "OOM" or "OOM allow" in message:
        return RedisFull("Redis has reached maxmemory")
    if code in _FINAL and not message.startswith(_ALL_CONNECTED):
        return RedisRefused(message)
    return RedisNotReady(code, message)
