"""The page's pure modules in Node, on the vectors that these tests read too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILES = sorted((ROOT / "tests" / "web").glob("*.test.js"))


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here: apt install nodejs")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_in_node(file: Path) -> None:
    ran = subprocess.run(
        ["node", "--test", str(file)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 0 == ran.returncode, ran.stdout + ran.stderr
