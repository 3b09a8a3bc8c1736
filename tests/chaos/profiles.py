"""The faults of a run and their frequencies.

worker    killed · paused for slightly or much longer than its lease · SIGTERM
server    killed · SIGTERM · paused
client    connections reset · closed · half-open · delayed · throttled · stalled
wire      the same between Holdline and Redis, and the reply to a command lost
redis     clients killed · scripts flushed · paused · killed · out of memory · tiny buffers ·
          writes rejected · disk full
sentinel  the master frozen for less time than the Sentinels wait
clock     a step of up to 90 s forward or back, in Redis, the servers or the workers
loss      flushed · restarted empty · file truncated · older file restored · master replaced;
          only in profiles with loss
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """A set of faults with their weights, and the range of seconds between two faults."""

    weights: dict[str, float]
    pause: tuple[float, float] = (0.05, 0.35)
    wire_delay: float = 0.0
    lease: float = 0.3
    plain: bool = False
    model_pace: tuple[float, float] = (0.005, 0.04)
    # If set, Redis loses acknowledged writes. The loss must be reported; all other promises hold.
    loss: bool = False
    # If above 0, Redis runs as a master with a replica. Sentinels replace the master after it has
    # been silent for this many seconds.
    sentinels: float = 0


USUAL = {
    "worker.kill": 2.5,
    "worker.pause": 4,
    "worker.term": 2,
    "server.kill": 1.5,
    "server.term": 1.5,
    "server.pause": 1,
    "client.reset": 4,
    "client.close": 3,
    "client.half_open": 3,
    "client.delay": 2,
    "client.throttle": 2,
    "client.stall": 2,
    "wire.lost_reply": 14,
    "wire.reset": 2,
    "wire.half_open": 1,
    "wire.delay": 2,
    "wire.stall": 2,
    "redis.kill_pubsub": 4,
    "redis.kill_normal": 2,
    "redis.flush_scripts": 2,
    "redis.pause": 0.5,
    "redis.restart": 1,
    "redis.out_of_memory": 0.7,
    "redis.tiny_buffer": 1,
    "redis.refuse_writes": 0.7,
    "redis.disk_full": 0.5,
    "clock.step": 1,
}
# With Sentinels, Holdline's processes connect to the nodes without the proxy.
WITHOUT_PROXY = {
    kind: weight
    for kind, weight in USUAL.items()
    if kind.startswith(("worker", "server", "client", "redis.kill", "redis.flush", "clock"))
}
PROFILES = {
    "usual": Profile(USUAL),
    "loss": Profile(
        {"loss.flush": 3, "loss.restart_empty": 2, "loss.cut_file": 3, "loss.go_back": 3}
        | {kind: weight / 4 for kind, weight in USUAL.items()},
        pause=(0.1, 0.6),
        loss=True,
    ),
    # After a rollback, logs grow again beyond the positions that clients have reached.
    "rollback": Profile(
        {"loss.go_back": 3, "loss.cut_file": 1}
        | {kind: weight / 8 for kind, weight in USUAL.items()},
        pause=(0.2, 0.8),
        loss=True,
    ),
    "frozen": Profile(WITHOUT_PROXY | {"sentinel.freeze": 8}, (0.1, 0.6), sentinels=5),
    "failover": Profile(
        WITHOUT_PROXY | {"sentinel.freeze": 4, "loss.failover": 8},
        (0.1, 0.6),
        loss=True,
        sentinels=1,
    ),
    # Each profile tests one defence. If that defence is disabled, the checker must report
    # violations.
    "zombies": Profile(
        {"worker.pause_past_lease": 1},
        pause=(0.8, 1.2),
        # A write by a worker that has lost its job is harmful only before the next worker's first
        # output. The delay extends that period.
        wire_delay=0.05,
        lease=0.7,
        plain=True,
        model_pace=(0.05, 0.1),
    ),
    "late notifications": Profile(
        {"wire.delay": 2, "redis.kill_pubsub": 1, "client.close": 2}, plain=True
    ),
    "lost notifications": Profile({"redis.kill_pubsub": 1}, (0.03, 0.12), plain=True),
    "lost replies": Profile({"wire.lost_append": 1}, (0.03, 0.1), plain=True),
}
