"""Runs a third-party program and reads its output."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.paths.conftest import Shared
from tests.system import clean_environ

HERE = Path(__file__).parent
PYTHON = Path(os.environ["PROGRAMS"]) / "bin" / "python"
SECONDS = 90
CALL = 'mode=call args={"location":"Bern"}'


def environment(name: str) -> Path:
    """Returns the folder with the commands of an environment from `environments/`."""
    return PYTHON.parents[1] / "environments" / name / "bin"


async def run(shared: Shared, program: str, *arguments: str, python: Path = PYTHON) -> Any:
    """Runs a program with the tests' shared server; see `run_at`."""
    return await run_at(shared.server.url, program, *arguments, python=python)


async def run_at(url: str, program: str, *arguments: str, python: Path = PYTHON) -> Any:
    """Runs a program with the server at `url`.

    The program must succeed. Returns its JSON output.
    """
    command = "node" if program.endswith(".mjs") else str(python)
    return json.loads(
        await output_of(command, str(HERE / program), *arguments, BASE_URL=f"{url}/v1")
    )


async def output_of(
    *command: str, seconds: float = SECONDS, cwd: Path | None = None, **environ: str
) -> bytes:
    """Runs a command, which must succeed within `seconds`, and returns what it prints to stdout.

    Otherwise, the command and all processes that it has started are killed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        env={**clean_environ(), "NO_PROXY": "127.0.0.1", **environ},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            # A launcher, such as the one of Codex, may leave the program running, which would keep
            # the pipes open. `wait` returns only after all of them are closed.
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    assert 0 == process.returncode, errors.decode() + output.decode()
    return output


def has_tokens(tokens: int, text: str) -> bool:
    """Returns whether the text consists of the given number of tokens."""
    return tokens == len(text.split())
