"""Reads the model directly with the official SDK's typed stream, without queue, log or resume."""

import asyncio
import json
import os
import time

from lines import obey
from openai import AsyncOpenAI, DefaultAioHttpClient


async def main() -> None:
    client = AsyncOpenAI(
        base_url=os.environ["OPENAI_BASE_URL"],
        max_retries=0,
        http_client=DefaultAioHttpClient(),
        timeout=600,
    )
    ages: list[tuple[int, float]] = []

    async def one(prompt: str) -> int:
        tokens = 0
        stream = await client.chat.completions.create(
            model="bench",
            messages=[{"role": "user", "content": prompt}],
            stream=True,
            stream_options={"include_usage": True},
        )
        async for chunk in stream:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                tokens += 1
                if text[0].isdigit():
                    written = int(text)
                    ages.append((written, round((time.monotonic_ns() - written) / 1e6, 3)))
        return tokens

    async def stream(streams: str, tokens: str, pace: str) -> str:
        ages.clear()
        prompt = f"tokens={tokens} pace={pace}"
        said = sum(await asyncio.gather(*(one(prompt) for _ in range(int(streams)))))
        return json.dumps({"tokens": said, "ages": ages})

    await obey({"ready": lambda: "ok", "stream": stream})


asyncio.run(main())
