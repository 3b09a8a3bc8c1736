"""The faults of a run and their frequencies.

worker    killed · paused for slightly or much longer than its lease · SIGTERM · replaced by another
          version
server    killed · SIGTERM · paused · replaced by another version
client    connections reset · closed · half-open · delayed · throttled · stalled
wire      the same between Holdline and Redis, and the reply to a command lost
model     connections reset · the endpoint replies wrongly to workers that reconnect to an answer
redis     clients killed · scripts flushed · paused · killed · out of memory · tiny buffers ·
          writes rejected · disk full
sentinel  the master frozen for less time than the Sentinels wait
cluster   a slot moved at once or key by key · a replica in the place of its master as planned
clock     a step of up to 90 s forward or back, in Redis, the servers or the workers
loss      flushed · restarted empty · file truncated · older file restored · master replaced ·
          a cluster's master killed or frozen; only in profiles with loss
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# The fake model's modes, with their weights in percent.
MODES = (
    (62, ""),
    (6, "mode=eof times=1"),
    (4, "mode=rst times=1"),
    (4, "mode=drop times=1"),
    (4, "mode=500 times=1"),
    (3, "mode=503 times=1 after=0.2"),
    (3, "mode=busy times=1 after=0.3"),
    (3, "mode=hang times=1"),
    (2, "mode=silent times=1"),
    (2, "mode=headers times=1"),
    (2, "mode=errorobject times=1"),
    (2, "mode=cutchunk times=1"),
    (2, "mode=badjson times=1"),
    (1, "mode=400"),
)
# The modes of an endpoint that generates in the background.
BACKGROUND_MODES = (
    (80, ""),
    (6, "mode=late after=0.5"),
    (4, "mode=eof times=1"),
    (4, "mode=failed times=1"),
    (4, "mode=errorevent times=1"),
    (2, "mode=hang times=1"),
)
BACKGROUND = """
[models.background]
base_url = "{url}"
api = "responses"
background = true
"""
CONTINUING = """
[models.continuing]
base_url = "{url}"
continues = "vllm"
on_worker_death = "continue"
"""


@dataclass(frozen=True)
class Profile:
    """A set of faults with their weights, and the range of seconds between two faults.

    `models` is the models file, in which `{url}` is the fake model's URL. Without it, all requests
    name the same model. In a `plain` profile, no prompt selects a mode, and no client cancels or
    deletes a response.
    """

    weights: dict[str, float]
    pause: tuple[float, float] = (0.05, 0.35)
    wire_delay: float = 0.0
    lease: float = 0.3
    # The time limit for each piece of an answer, in seconds.
    stall_timeout: float = 1.0
    max_attempts: int = 5
    plain: bool = False
    models: str = ""
    modes: tuple[tuple[int, str], ...] = MODES
    tokens: tuple[int, int] = (20, 60)
    model_pace: tuple[float, float] = (0.005, 0.04)
    # If set, Redis loses acknowledged writes. The loss must be reported; all other promises hold.
    loss: bool = False
    # If set, no fault may cause output to be generated twice.
    keeps_output: bool = False
    # If set, the endpoint may continue an answer with another text.
    rude: bool = False
    # All answers must end within this many seconds after the faults.
    calm: float = 10.0
    # If above 0, the clients are the devices of this many end users, which follow conversations.
    users: int = 0
    # If set, the processes run the checkout or the newest released version.
    versions: bool = False
    # If above 0, Redis runs as a master with a replica. Sentinels replace the master after it has
    # been silent for this many seconds.
    sentinels: float = 0
    # If above 0, Redis runs as a cluster whose masters have replicas. A replica replaces its master
    # after this many seconds of silence.
    cluster: float = 0


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
# With Sentinels and in a cluster, Holdline's processes connect to the nodes without the proxy.
WITHOUT_PROXY = {
    kind: weight
    for kind, weight in USUAL.items()
    if kind.startswith(("worker", "server", "client", "redis.kill", "redis.flush", "clock"))
}
MOVES = {"cluster.move": 4, "cluster.reshard": 4, "cluster.switch": 1}
# The common settings of the profiles with a cluster.
IN_CLUSTER = Profile({}, (0.1, 0.6), calm=20.0)
# The common settings of the profiles in which no fault may cause output to be generated twice.
KEEPS_OUTPUT = Profile(
    {},
    # A busy machine must not delay a worker so much that it loses its lease or calls again.
    lease=2.0,
    stall_timeout=10.0,
    # On a busy machine, an answer takes longer, so more faults hit it.
    max_attempts=20,
    calm=30.0,
    plain=True,
    tokens=(60, 160),
    model_pace=(0.02, 0.05),
    keeps_output=True,
)

PROFILES = {
    "usual": Profile(USUAL),
    # Tokens have times, so no clock is changed.
    "conversations": Profile(
        {kind: weight for kind, weight in USUAL.items() if kind != "clock.step"},
        users=3,
        calm=20.0,
    ),
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
    # Slots and masters change their places without any loss, so all promises hold.
    "moving": replace(IN_CLUSTER, weights=WITHOUT_PROXY | MOVES, cluster=30),
    "cluster": replace(
        IN_CLUSTER, weights=WITHOUT_PROXY | MOVES | {"loss.master": 8}, loss=True, cluster=1
    ),
    # No death of a worker and no lost connection causes a second model call.
    "background": replace(
        KEEPS_OUTPUT,
        weights={
            "worker.kill": 2,
            "worker.term": 2,
            "worker.pause": 1,
            "model.cut": 2,
            "client.reset": 1,
            "client.close": 1,
        },
        pause=(0.3, 1.2),
        models=BACKGROUND,
    ),
    # Upgrades and rollbacks of all processes, one after the other and in any order.
    "upgrade": replace(
        KEEPS_OUTPUT,
        weights={"worker.replace": 3, "server.replace": 3, "client.reset": 1, "client.close": 1},
        pause=(0.3, 1.2),
        models=BACKGROUND,
        versions=True,
    ),
    # The model continues the text in the log. Workers are not paused, because a paused worker and
    # its successor would both have the rest generated.
    "continuing": replace(
        KEEPS_OUTPUT,
        weights={"worker.kill": 2, "worker.term": 2, "model.cut": 1, "client.reset": 1},
        pause=(0.8, 2.4),
        models=CONTINUING,
    ),
    # The endpoint loses answers, or continues them wrongly.
    "rude": Profile(
        {"model.rude": 4, "model.cut": 4, "worker.kill": 2, "worker.term": 2, "worker.pause": 2}
        | {kind: weight / 8 for kind, weight in USUAL.items() if "worker" not in kind},
        pause=(0.1, 0.5),
        models=BACKGROUND,
        modes=BACKGROUND_MODES,
        rude=True,
        # A worker reconnects to an answer for eight seconds.
        calm=30.0,
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
