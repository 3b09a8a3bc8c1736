"""The command protocol of the peers: each input line is a command and gets one reply line."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any


async def obey(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Runs the commands from standard input until it ends.

    Replies go to the original standard output. Everything else that is printed goes to standard
    error, so that the harness does not read the output of a library as a reply.
    """
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    while line := (await asyncio.to_thread(sys.stdin.readline)).split():
        answer = commands[line[0]](*line[1:])
        if inspect.isawaitable(answer):
            answer = await answer
        print(answer or "ok", file=out, flush=True)
