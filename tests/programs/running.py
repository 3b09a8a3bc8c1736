"""Runs a program that nobody here wrote, and reads what it prints."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from tests.paths.conftest import Shared
from tests.system import clean_environ

HERE = Path(__file__).parent
PYTHON = Path(os.environ["PROGRAMS"]) / "bin" / "python"
SECONDS = 90
CALL = 'mode=call args={"location":"Bern"}'


def environment(name: str) -> Path:
    """The folder of the commands of one of `environments/`."""
    return PYTHON.parents[1] / "environments" / name / "bin"


async def run(shared: Shared, program: str, *arguments: str, python: Path = PYTHON) -> Any:
    """`run_at` the server that the journeys share."""
    return await run_at(shared.server.url, program, *arguments, python=python)


async def run_at(url: str, program: str, *arguments: str, python: Path = PYTHON) -> Any:
    """What a program prints whose server is there, from JSON; it must succeed."""
    command = "node" if program.endswith(".mjs") else str(python)
    process = await asyncio.create_subprocess_exec(
        *(command, str(HERE / program), *arguments),
        env={**clean_environ(), "BASE_URL": f"{url}/v1", "NO_PROXY": "127.0.0.1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert 0 == process.returncode, errors.decode()
    return json.loads(said)


def counted(tokens: int, text: str) -> bool:
    """Whether a text is what the model says in so many tokens."""
    return tokens == len(text.split())
