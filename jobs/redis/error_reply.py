"""Distinguishes temporary error replies of Redis from final errors, which a retry would not change.

The first word of an error reply is its code. A few codes are final:

    NOPERM WRONGPASS WRONGTYPE   a setting or data is wrong
    ERR                          the command is wrong, unless all connections are in use
    NOSCRIPT MOVED               nothing has failed: the pipe sends the command in another way

Every other code is temporary, because an operator, a failover or time can resolve it: MISCONF,
NOREPLICAS, BUSY, LOADING, READONLY, ASK, and unknown codes of future versions and proxies. A
temporary error that was treated as final would abandon a response that only had to wait. A final
error that is treated as temporary only costs some seconds of retries. NOAUTH is temporary, because
an operator can remove the password again. When a process starts, `check` treats NOAUTH as final.

After any of these errors, Redis has not executed the command. A script fails at its first write, so
it has changed nothing.
"""

from __future__ import annotations

import re
from typing import Final

from jobs.errors import RedisFull, RedisNotReady, RedisRefused

_FINAL: Final = {"NOPERM", "WRONGPASS", "WRONGTYPE", "ERR", "NOSCRIPT", "MOVED"}
_ALL_CONNECTED: Final = "ERR max number of clients"
# Matches the error code of a command that failed in a script. Some servers wrap this error in
# another one: `ERR Error running script (call to f_…): @user_script:1: -MISCONF …`
_IN_SCRIPT: Final = re.compile(r"script.*?[ :.]-([A-Z]+)\b", re.DOTALL)


def exception_of(message: str) -> RedisFull | RedisNotReady | RedisRefused:
    """Returns the exception that represents an error reply of Redis."""
    code = message.partition(" ")[0]
    if code == "ERR" and (inner := _IN_SCRIPT.search(message)):
        code = inner[1]
    if code == "OOM" or "OOM allow" in message:
        return RedisFull("Redis has reached maxmemory")
    if code in _FINAL and not message.startswith(_ALL_CONNECTED):
        return RedisRefused(message)
    return RedisNotReady(code, message)
