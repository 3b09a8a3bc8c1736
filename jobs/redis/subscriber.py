"""Subscribes to sharded pub/sub channels and reports every possible loss of messages.

In a cluster, Redis sends the messages of a sharded channel only to the node that has the channel's
slot, so this module keeps one connection to each master. Outside of a cluster, there is one master.

Redis drops messages for a disconnected subscriber and does not report the loss. So each
subscription has two callbacks. `notify` receives the messages. `gap` is called when Redis confirms
the subscription, at first and again after each reconnect or move of the slot, because earlier
messages may be missing. The subscribing code then reads the log.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from runtime.loop import Loop

from .node_subscriber import NodeSubscriber

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .connection import Redis
    from .node_subscriber import Gap, Notify, Publish

# The time in which a change of the slot table is noticed.
WATCH_SECONDS = 0.25
# The pause before a channel is subscribed again that its master no longer serves. Meanwhile, the
# slot table is read.
MOVE_SECONDS = 0.05


class Subscriber:
    """Subscribes to many channels over one connection to each master. An async context manager.

    To check its connections, the subscriber publishes messages by calling `publish(channel,
    message)`. `probes` contains one channel for each hash slot that subscriptions use, and each
    connection uses one of them. Callbacks of subscriptions must not block and must not raise.
    """

    def __init__(self, redis: Redis, *, probes: Sequence[str], publish: Publish) -> None:
        self._redis = redis
        self._probes = probes
        self._publish = publish
        self._nodes: dict[str, NodeSubscriber] = {}
        # The subscriptions without a master, because it is unknown or no longer serves the channel.
        self._homeless: dict[str, tuple[Notify, Gap]] = {}
        self._complete = False  # True if the masters of all probes are known
        self._version = -1  # of the slot table by which the subscriptions were placed
        self._watching = Loop("subscriber", self._watch, (WATCH_SECONDS, WATCH_SECONDS))

    @property
    def healthy(self) -> bool:
        """True while the connections to all masters deliver messages."""
        return self._complete and all(node.healthy for node in self._nodes.values())

    async def __aenter__(self) -> Self:
        await self._place()
        self._watching.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._watching.stop()
        for node in self._nodes.values():
            await node.stop()

    def subscribe(self, channel: str, notify: Notify, gap: Gap) -> None:
        """Calls `notify` for each message of the channel, and `gap` when messages may be missing.

        All messages that are published after the first call to `gap` arrive. So read the log after
        this call, not before.
        """
        name = self._redis.node_of(channel)
        if name is not None and name in self._nodes:
            self._nodes[name].subscribe(channel, notify, gap)
        else:
            self._lost(channel, notify, gap)

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription. Its callbacks are not called again."""
        self._homeless.pop(channel, None)
        for node in self._nodes.values():
            if channel in node.subscriptions:
                node.unsubscribe(channel)

    def _lost(self, channel: str, notify: Notify, gap: Gap) -> None:
        self._homeless[channel] = notify, gap
        self._redis.doubt()
        self._watching.wake()

    async def _watch(self) -> None:
        if not all(node.connected for node in self._nodes.values()):
            self._redis.doubt()  # the master may have failed and been replaced
        if self._homeless:
            await asyncio.sleep(MOVE_SECONDS)
        if self._homeless or self._version != self._redis.version:
            await self._place()

    async def _place(self) -> None:
        """Moves each subscription to the master that has its slot."""
        self._version, self._complete = self._redis.version, True
        unplaced, self._homeless = self._homeless, {}
        for at, node in self._nodes.items():
            for channel, callbacks in list(node.subscriptions.items()):
                if self._redis.node_of(channel) != at:
                    unplaced[channel] = callbacks
                    node.unsubscribe(channel)
        probes: dict[str, str] = {}
        for probe in self._probes:
            if (name := self._redis.node_of(probe)) is not None:
                probes.setdefault(name, probe)
            else:
                self._complete = False
        for name, probe in probes.items():
            self._node(name).use_probe(probe)
        for channel, callbacks in unplaced.items():
            if (name := self._redis.node_of(channel)) is not None:
                self._node(name).subscribe(channel, *callbacks)
            else:
                self._homeless[channel] = callbacks
        for name, node in list(self._nodes.items()):
            if name not in probes and not node.subscriptions:
                del self._nodes[name]
                await node.stop()

    def _node(self, name: str) -> NodeSubscriber:
        if (node := self._nodes.get(name)) is None:
            redis = self._redis.node(name)
            node = self._nodes[name] = NodeSubscriber(redis, self._publish, self._lost)
            node.start()
        return node
