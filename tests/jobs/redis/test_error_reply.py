from __future__ import annotations

import pytest

from jobs.errors import RedisAway, RedisFull, RedisNotReady, RedisRefused
from jobs.redis.error_reply import exception_of

PASSES = (
    "ASK 3999 127.0.0.1:6381",
    "ASKING is not a code that any version has",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "CLUSTERDOWN The cluster is down",
    "ERR max number of clients reached",
    "ERR max number of clients + cluster connections reached",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
    "MISCONF Errors writing to the AOF file: No space left on device",
    "MISCONF Errors writing to the AOF file script: 5e1f, on @user_script:12.",
    "NOAUTH Authentication required.",
    "NOREPLICAS Not enough good replicas to write.",
    "NOREPLICAS Not enough good replicas to write. script: 5e1f, on @user_script:12.",
    "NOQUORUM a code of a later version",
    "READONLY You can't write against a read only replica.",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "UNBLOCKED force unblock from blocking operation, instance state changed",
    "no upstream host",
    "ERR Error running script (call to f_5e1f): @user_script:12: -MISCONF Redis is configured",
    "ERR Error running script (call to f_5e1f): @user_script:12: -NOREPLICAS Not enough good",
    "ERR Error running script (call to f_5e1f): @user_script:12: -BUSY Redis is busy",
    "ERR x script: 5e1f, on @user_script:1.-READONLY You can't write",
    "",
)
FINAL = (
    "ERR unknown command 'NO', with args beginning with: 'SUCH' 'COMMAND'",
    "ERR unknown command 'NO', with args beginning with: ' -BUSY '",
    "ERR value is not an integer or out of range script: 5e1f, on @user_script:12.",
    "ERR Error running script (call to f_5e1f): @user_script:12: -WRONGTYPE Operation against",
    "ERR Error running script (call to f_5e1f): @user_script:12: user_script:12: attempt to index",
    "MOVED 3999 127.0.0.1:6381",
    "NOPERM User default has no permissions to run the 'evalsha' command",
    "NOPERM User default has no permissions script: 5e1f, on @user_script:12.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
)
FULL = (
    "OOM command not allowed when used memory > 'maxmemory'.",
    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
    "ERR x script: f, on @user_script:1.-OOM command not allowed",
    "ERR Error running script (call to f_5e1f): @user_script:12: -OOM command not allowed",
)


@pytest.mark.parametrize("message", PASSES)
def test_transient_errors_are_retried(message: str) -> None:
    error = exception_of(message)
    assert RedisNotReady is type(error)
    assert isinstance(error, RedisAway)
    assert message in str(error)


@pytest.mark.parametrize("message", FINAL)
def test_permanent_errors_are_not_retried(message: str) -> None:
    error = exception_of(message)
    assert (RedisRefused, message) == (type(error), str(error))


@pytest.mark.parametrize("message", FULL)
def test_an_out_of_memory_error_is_recognized(message: str) -> None:
    assert RedisFull is type(exception_of(message))
