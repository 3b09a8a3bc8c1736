"""Tests the scripts that complete the commands of `holdline` in a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from command.completion import SHELLS
from tests.commands import install
from tests.system import clean_environ, run_module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the command `holdline` of this checkout."""
    install(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sta"], {"status"}),
        (["keys", ""], {"create", "list", "rotate", "revoke"}),
        (["keys", "create", "--ex"], {"--expires"}),
        (["completion", "f"], {"fish"}),
        (["signers", "add", "--alg", "H"], {"HS256"}),
    ],
)
def test_bash_completes_commands_and_options(
    folder: Path, words: list[str], expected: set[str]
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    script = (
        'eval "$(holdline completion bash)"\n'
        'COMP_WORDS=(holdline "$@"); COMP_CWORD=$#; COMPREPLY=()\n'
        "_holdline_completion holdline\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    environ = clean_environ()
    environ["PATH"] = f"{folder}:{environ['PATH']}"
    shown = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
        env=environ,
    )
    assert "" == shown.stderr
    assert expected == set(shown.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_calls_the_installed_command(shell: str) -> None:
    shown = run_module("command", "completion", shell)
    assert (0, "") == (shown.returncode, shown.stderr)
    assert "_HOLDLINE_COMPLETE" in shown.stdout
    assert "holdline" in shown.stdout
