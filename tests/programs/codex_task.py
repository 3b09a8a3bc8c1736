"""A task for Codex CLI. Each of its calls would change the files again if it ran twice."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.programs.codex_model import Step

CREATE: Final = '*** Begin Patch\n*** Add File: a.txt\n+one\n+é "😀" \\d\n*** End Patch\n'
CHANGE: Final = "*** Begin Patch\n*** Update File: a.txt\n@@\n-one\n+two\n+one\n*** End Patch\n"
ANSWER: Final = '{"file": "a.txt"}'
STEPS: Final[list[Step]] = [
    ("apply_patch", {"input": CREATE}),
    ("apply_patch", {"input": CHANGE}),
    ("exec_command", {"cmd": "tee -a b.txt < a.txt"}),
    ("tool_search", {"query": "spawn agent"}),
    ANSWER,
]
CONTENT: Final = 'two\none\né "😀" \\d\n'


def check_files(work: Path) -> None:
    """Checks that each call of the task has changed the files once."""
    files = {file.name: file.read_text() for file in work.iterdir()}
    assert {"a.txt": CONTENT, "b.txt": CONTENT} == files
