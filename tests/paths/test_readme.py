"""Tests that the snippets in the README and the first steps run as printed in a fresh clone.

Also tests a snippet that starts several processes. Only addresses, ports and the number of
processes are replaced.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.commands import install
from tests.paths.conftest import Shared
from tests.system import ROOT, clean_environ, free_port, run_command

README = (ROOT / "README.md").read_text()
START = (ROOT / "docs" / "start.md").read_text()
# The lines of the README that fit on one screen.
MAX_README_LINES = 50
PROGRAMS = re.findall(
    r"[Ss]ave this as `(\S+)` and run `([^`]+)`:\n\n```python\n(.*?)^```",
    START,
    re.MULTILINE | re.DOTALL,
)
SHELL = re.findall(r"^```sh\n(.*?)^```", README + START, re.MULTILINE | re.DOTALL)
# Each Python snippet is saved under the file name that the page gives, and run as the page
# states.
ASKING = [
    *PROGRAMS,
    *(("snippet.sh", "bash snippet.sh", one) for one in SHELL if "make" not in one),
]
SCALE = (ROOT / "docs" / "scale.md").read_text()
STARTING = re.findall(r"^```sh\n(.*?)^```", SCALE, re.MULTILINE | re.DOTALL)[0]
SERVER = "http://127.0.0.1:8080"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Creates a clone with a virtual environment and without generated files."""
    for path in ROOT.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


def test_every_program_names_its_file_and_its_command() -> None:
    assert len(PROGRAMS) == START.count("```python\n")


def test_the_readme_fits_on_one_screen() -> None:
    assert len(README.splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize(("file", "command", "snippet"), ASKING)
async def test_a_request_snippet_prints_the_answer(
    shared: Shared, clone: Path, file: str, command: str, snippet: str
) -> None:
    (clone / file).write_text(snippet.replace(SERVER, shared.server.url))
    said = await run_command(*command.split(), cwd=clone, environ=clean_environ())
    assert 20 == len(set(re.findall(r"c\d+t\d+ ", said)))


@pytest.mark.timeout(90)
async def test_the_snippet_that_starts_more_processes_works(shared: Shared, clone: Path) -> None:
    assert 2 == STARTING.count("--processes 4")
    text = STARTING.replace("redis://127.0.0.1:6379/0", shared.redis_url)
    text = text.replace("--processes 4", "--processes 2")
    environ = clean_environ() | {"HOLDLINE_PORT": str(free_port())}
    install(clone)
    environ["PATH"] = f"{clone}:{clone / '.venv/bin'}:{environ['PATH']}"
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
