"""A reader of one streamed answer, which measures the pauses between its events."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any, Self

import aiohttp

from jobs.log.events import RESTARTED, output_text
from tests.system import Server, wait_until


class Reader:
    """Asks for an answer and reads its stream. Use it as an async context manager."""

    def __init__(self, http: aiohttp.ClientSession, server: Server, prompt: str) -> None:
        self._http = http
        self._url = f"{server.url}/v1/responses"
        self.prompt = prompt
        self._task: asyncio.Task[None] | None = None
        self.events: list[dict[str, Any]] = []
        self.times: list[float] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        body = {"model": "m", "input": self.prompt, "stream": True}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._http.post(self._url, json=body, timeout=timeout) as response:
            assert 200 == response.status
            async for line in response.content:
                if line.startswith(b"data: {"):
                    self.events.append(json.loads(line[6:]))
                    self.times.append(time.monotonic())

    async def grown(self, seconds: float = 60.0) -> None:
        """Waits until more events have arrived."""
        before = len(self.events)
        await wait_until(lambda: len(self.events) > before, seconds)

    async def end(self) -> dict[str, Any]:
        """Waits for the end of the answer, checks it and returns its response object.

        The numbers of the events have no gap, and the deltas are the text of the response.
        """
        assert self._task is not None
        await self._task
        assert [*range(len(self.events))] == [one["sequence_number"] for one in self.events]
        assert RESTARTED not in [one["type"] for one in self.events]
        response: dict[str, Any] = self.events[-1]["response"]
        assert "completed" == response["status"]
        assert self.text == output_text(response["output"])
        return response

    @property
    def text(self) -> str:
        deltas = [one["delta"] for one in self.events if one["type"].endswith("text.delta")]
        return "".join(deltas)

    @property
    def longest_pause(self) -> float:
        """The longest time between two events, in seconds."""
        return max(later - earlier for earlier, later in itertools.pairwise(self.times))


def percentile(values: list[float], percent: int) -> float:
    """Returns the smallest value that is at least as high as `percent` percent of the values."""
    return sorted(values)[max(-(-len(values) * percent // 100) - 1, 0)]
