"""A peer is told what to do line by line, and answers each line with one line."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


async def obey(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Until standard input ends. What libraries print does not count as an answer."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        answer = commands[line[0]](*line[1:])
        if inspect.isawaitable(answer):
            answer = await answer
        print(answer or "ok", file=out, flush=True)
