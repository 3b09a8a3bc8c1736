"""The peer arq, whose worker runs empty jobs, 100 at a time."""

import asyncio
import os

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from lines import obey


async def noop(ctx: dict[str, object], text: str) -> str:
    return "done"


async def main() -> None:
    settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    pool = await create_pool(settings)

    async def fill(count: str) -> None:
        for at in range(0, int(count), 200):
            some = range(at, min(at + 200, int(count)))
            await asyncio.gather(*(pool.enqueue_job("noop", "Why is the sky blue?") for _ in some))

    async def drain(_count: str) -> None:
        worker = Worker(
            functions=[noop],
            redis_pool=pool,
            burst=True,
            max_jobs=100,
            poll_delay=0.01,
            handle_signals=False,
        )
        await worker.main()

    await obey({"ready": lambda: "ok", "fill": fill, "drain": drain})


asyncio.run(main())
