"""Runs the web modules' tests in Node, with the same test vectors as the Python tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "tests" / "web").glob("*.test.js"))


@pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: apt install nodejs"
)
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_pure_modules_of_the_page_pass_their_node_tests(file: Path) -> None:
    ran = subprocess.run(
        ["node", "--test", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 0 == ran.returncode, ran.stdout + ran.stderr
