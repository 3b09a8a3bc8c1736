"""P17: the connections of a server and of a worker to each master of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from bench.cluster import Masters, cluster
from bench.figures import Bound, Measure, Play, Sample
from bench.rig import Rig

MASTERS: Final = 3
SERVER, WORKER = "server", "worker"
MOST, TOTAL = "most to one master", "all"


@asynccontextmanager
async def contest(rig: Rig, size: Mapping[str, Any]) -> AsyncIterator[Mapping[str, Play]]:
    """Starts one process for each cluster."""
    partitions = str(size["partitions"])
    async with cluster(rig, MASTERS) as first, cluster(rig, MASTERS) as second:
        await rig.server(REDIS_URL=first.url, HOLDLINE_PARTITIONS=partitions)
        _, url = await rig.model()
        await rig.worker(url, REDIS_URL=second.url, HOLDLINE_PARTITIONS=partitions)
        yield {
            SERVER: partial(_count, first, size["seconds"]),
            WORKER: partial(_count, second, size["seconds"]),
        }


async def _count(masters: Masters, seconds: float) -> Sample:
    """Returns the highest numbers of connections within a time."""
    most = total = 0
    deadline = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < deadline:
        found = await masters.connections()
        most, total = max(most, *found), max(total, sum(found))
        await asyncio.sleep(0.1)
    return {MOST: most, TOTAL: total}


MEASURE = Measure(
    name="P17",
    title="Redis Cluster: connections of one process to 3 masters, with 128 partitions",
    sizes={
        "full": {"partitions": 128, "seconds": 3},
        "quick": {"partitions": 128, "seconds": 1},
    },
    units={MOST: "connections", TOTAL: "connections"},
    bounds=tuple(
        Bound(
            f"connections of a {who} to one master",
            lambda one, who=who: one[who][MOST],  # type: ignore[misc]  # mypy cannot infer a default
            unit="connections",
            most=2,
        )
        for who in (SERVER, WORKER)
    ),
    open=contest,
    # The connections that a process opens at its start must have ended, so a warm-up is needed.
    warms_up=True,
)
