"""The snippets of the README, and the one that starts several processes, run as printed in a fresh
clone, except for addresses and ports.
"""

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

README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(
    r"[Ss]ave this as `(\S+)` and run `([^`]+)`:\n\n```python\n(.*?)^```",
    README,
    re.MULTILINE | re.DOTALL,
)
SHELL = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# A Python snippet is saved to the file that the text names, and run as the text says.
ASKING = [
    *PROGRAMS,
    *(("snippet.sh", "bash snippet.sh", one) for one in SHELL if "make" not in one),
]
SCALING = [
    text for path in (ROOT / "docs").rglob("*.md") if "-m worker &" in (text := path.read_text())
]
((STARTING,),) = (
    re.findall(r"^```sh\n([^`]*-m worker &.*?)^```", text, re.MULTILINE | re.DOTALL)
    for text in SCALING
)
SERVER = "http://127.0.0.1:8080"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A checkout with a virtual environment and no generated files."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def test_every_program_names_its_file_and_its_command() -> None:
    assert len(PROGRAMS) == README.count("```python\n")


@pytest.mark.parametrize(("file", "command", "snippet"), ASKING)
async def test_a_request_snippet_prints_the_answer(
    shared: Shared, clone: Path, file: str, command: str, snippet: str
) -> None:
    (clone / file).write_text(snippet.replace(SERVER, shared.server.url))
    said = await run_command(*command.split(), cwd=clone, environ=clean_environ())
    assert 20 == len(set(re.findall(r"c\d+t\d+ ", said)))


@pytest.mark.timeout(90)
async def test_the_snippet_that_starts_more_processes_works(shared: Shared, clone: Path) -> None:
    text = STARTING.replace("redis://127.0.0.1:6379/0", shared.redis_url)
    for port in ("8080", "8081"):
        text = text.replace(port, str(free_port()))
    environ = clean_environ()
    environ["PATH"] = f"{clone / '.venv/bin'}:{environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{text}\nwait"),
        cwd=clone,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    missing = ["server ready", "server ready", "worker ready", "worker ready"]
    said = ""
    try:
        async with asyncio.timeout(60):
            while missing:
                line = (await process.stdout.readline()).decode()
                assert line, said
                said += line
                for words in {words for words in missing if words in line}:
                    missing.remove(words)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
