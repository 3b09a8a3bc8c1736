"""Tests that the released version can be installed apart from the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import clean_environ, run_command
from tests.upgrade.releases import newest, unpack


# The environment is downloaded. The other tests of this folder need it only if the requirements of
# the release differ from those of the checkout.
@pytest.mark.heavy
@pytest.mark.timeout(700)
async def test_the_release_runs_with_its_own_locked_requirements(tmp_path: Path) -> None:
    release = unpack(tmp_path / "release", own_environment=True)
    assert newest()[0] == release.version
    for program in ("server", "worker"):
        command = (release.python, "-m", program, "--help")
        found = await run_command(*command, cwd=release.folder, environ=clean_environ())
        assert "HOLDLINE_MODEL" in found
    imported = (release.python, "-c", "import openai; print(openai.__file__)")
    assert ".venv-release-" in await run_command(*imported, cwd=release.folder)
