"""The README's snippets run as printed in a fresh clone, except for addresses and ports."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.paths.conftest import Shared
from tests.system import ROOT, clean_environ, free_port, run_command

SNIPPETS = re.findall(
    r"^```(sh|python)\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
)
ASKING = [one for one in SNIPPETS if "make run" not in one[1] and "127.0.0.1:8080" in one[1]]
((_, STARTING),) = (one for one in SNIPPETS if "-m worker" in one[1])
SERVER = "http://127.0.0.1:8080"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout with a virtual environment and no generated files."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.mark.parametrize(("language", "snippet"), ASKING)
async def test_a_request_snippet_prints_the_answer(
    shared: Shared, clone: Path, language: str, snippet: str
) -> None:
    file = clone / f"snippet.{language}"
    file.write_text(snippet.replace(SERVER, shared.server.url))
    program = {"python": ".venv/bin/python", "sh": "bash"}[language]
    said = await run_command(program, file.name, cwd=clone, environ=clean_environ())
    assert 20 == len(set(re.findall(r"c\d+t\d+ ", said)))


async def test_the_snippet_that_starts_more_processes_works(shared: Shared, clone: Path) -> None:
    text = STARTING.replace("8081", str(free_port())).replace(
        "redis://127.0.0.1:6379/0", shared.redis_url
    )
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{text}\nwait"),
        cwd=clone,
        env=clean_environ(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    missing = {"server ready", "worker ready"}
    said = ""
    try:
        async with asyncio.timeout(30):
            while missing:
                line = (await process.stdout.readline()).decode()
                assert line, said
                said += line
                missing -= {words for words in missing if words in line}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
