"""Lists the Redis commands that Holdline needs, and finds those that the Redis user may not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from jobs.names import Partition
from jobs.scripts import calls

if TYPE_CHECKING:
    from .pipe import Pipe

# The commands without a key, with arguments that make each of them valid.
_WITHOUT_KEY: Final = {
    "ping": "",
    "info": "",
    "client|setinfo": "lib-name x",
    "pubsub|shardnumsub": "",
    "wait": "0 0",
    "script|load": "x",
    "time": "",
    "scan": "0",
    "role": "",
    "cluster|info": "",
    "cluster|slots": "",
    "config|get": "x",
}
_WITH_SCRIPT: Final = {"eval": "x 1 KEY", "evalsha": "x 1 KEY"}
# The commands that every installation needs.
NEEDED: Final = (
    *("ping", "info", "client|setinfo", "spublish", "ssubscribe", "sunsubscribe"),
    *("pubsub|shardnumsub", "wait", "script|load", "eval", "evalsha", "get", "set", "del"),
    *("exists", "type", "time", "pexpire", "pttl", "hget", "hgetall", "hset", "hsetnx", "hdel"),
    *("hexists", "hlen", "hmget", "hincrby", "hincrbyfloat", "llen", "lindex", "lpos", "lpush"),
    *("rpush", "lpop", "lrange", "lrem", "lset", "ltrim", "mget", "sadd", "smembers", "zadd"),
    *("zrem", "zpopmin", "zcard", "zcount", "zscore", "zincrby", "zrange", "zrangebyscore"),
    *("zremrangebyscore", "zremrangebyrank"),
    *("xadd", "xrange", "xrevrange", "xtrim"),
)
ADMIN: Final = ("scan", "config|get")
SENTINEL: Final = ("role",)
CLUSTER: Final = ("cluster|info", "cluster|slots")


async def denied(pipe: Pipe, names: tuple[str, ...]) -> list[str]:
    """Returns the commands among `names` that the Redis user may not run on Holdline's keys.

    Raises: RedisTrouble.
    """
    commands = {_example(name): name for name in names}
    call = calls.denied(example_key=Partition(0).probe("check"), commands=list(commands))
    return [commands[found.decode()] for found in await pipe.run(call)]


def _example(name: str) -> str:
    """Returns a valid use of a command, as words separated by spaces."""
    arguments = (_WITHOUT_KEY | _WITH_SCRIPT).get(name, "KEY")
    return f"{name.replace('|', ' ')} {arguments}".strip()
