"""Looks into a subscriber."""

from __future__ import annotations

from jobs.redis.subscriber import Subscriber


def channels_of(subscriber: Subscriber) -> set[str]:
    """Returns the channels to which a subscriber is subscribed, without those of its probes."""
    return set(subscriber._homeless).union(
        *(node.subscriptions for node in subscriber._nodes.values())
    )
