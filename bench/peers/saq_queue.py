"""The peer saq, whose worker runs empty jobs, 100 at a time."""

import asyncio
import os

from lines import obey
from saq import Queue, Worker

left = 0
done = asyncio.Event()


async def noop(ctx: dict[str, object], *, text: str) -> str:
    return "done"


async def count_down(ctx: dict[str, object]) -> None:
    global left
    left -= 1
    if left <= 0:
        done.set()


async def main() -> None:
    queue = Queue.from_url(os.environ["REDIS_URL"])
    await queue.connect()

    async def fill(count: str) -> None:
        for at in range(0, int(count), 200):
            some = range(at, min(at + 200, int(count)))
            await asyncio.gather(
                *(queue.enqueue("noop", text="Why is the sky blue?") for _ in some)
            )

    async def drain(count: str) -> None:
        global left
        left = int(count)
        done.clear()
        worker = Worker(queue, functions=[noop], concurrency=100, after_process=count_down)
        task = asyncio.create_task(worker.start())
        await done.wait()
        await worker.stop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await obey({"ready": lambda: "ok", "fill": fill, "drain": drain})


asyncio.run(main())
