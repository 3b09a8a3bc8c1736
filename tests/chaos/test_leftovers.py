"""Tests which connections a chaos run counts as left behind."""

from __future__ import annotations

from redis.crc import key_slot

from jobs.names import Partition
from tests.chaos.run import is_of_redis
from tests.paths.topologies.several import ask, cluster, port_of_master


async def test_the_connection_over_which_a_master_has_moved_keys_is_not_left_behind() -> None:
    key = Partition(0).queues
    slot = key_slot(key.encode())
    async with cluster() as nodes:
        port = await port_of_master(slot, nodes.masters[0])
        source = next(node for node in nodes.masters if node.port == port)
        target = next(node for node in nodes.masters if node is not source)
        await ask(source, "SET", key, "x")
        await nodes.begin_move(slot, source, target)
        await nodes.end_move(slot, source, target)
        lines = (await ask(target, "CLIENT", "LIST")).splitlines()
    # The other connection has sent CLIENT LIST.
    assert [False, True] == sorted(is_of_redis(line) for line in lines)
