"""The peer taskiq with a Redis list, whose worker runs empty jobs, 100 at a time."""

import asyncio
import os

from lines import obey
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

url = os.environ["REDIS_URL"]
results = RedisAsyncResultBackend(redis_url=url, result_ex_time=3600)
broker = ListQueueBroker(url=url).with_result_backend(results)
left = 0
done = asyncio.Event()


@broker.task(task_name="noop")
async def noop(text: str) -> str:
    return "done"


async def main() -> None:
    await broker.startup()
    save = results.set_result

    async def saved(task_id: str, result: object) -> None:
        global left
        await save(task_id, result)
        left -= 1
        if left <= 0:
            done.set()

    results.set_result = saved

    async def fill(count: str) -> None:
        for at in range(0, int(count), 200):
            some = range(at, min(at + 200, int(count)))
            await asyncio.gather(*(noop.kiq("Why is the sky blue?") for _ in some))

    async def drain(count: str) -> None:
        global left
        left = int(count)
        done.clear()
        task = asyncio.create_task(run_receiver_task(broker, max_async_tasks=100))
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    await obey({"ready": lambda: "ok", "fill": fill, "drain": drain})


asyncio.run(main())
