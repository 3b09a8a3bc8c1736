"""Command protocol of the peers: each input line is a command, and gets one line as its reply."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


async def obey(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Runs commands until standard input ends.

    Standard output is redirected to standard error, so that output of libraries is not read as a
    reply.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        answer = commands[line[0]](*line[1:])
        if inspect.isawaitable(answer):
            answer = await answer
        print(answer or "ok", file=out, flush=True)
