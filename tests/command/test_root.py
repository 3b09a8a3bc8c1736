"""Tests the command `holdline` as a whole: its help, its errors and what it imports."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from command.root import SECTIONS, holdline
from runtime import command_line
from tests.system import PREFIX, ROOT, clean_environ, module_command, run_module

NAMES = [entry.name for entries in SECTIONS.values() for entry in entries]


def test_the_help_lists_each_command_with_its_summary() -> None:
    shown = run_module("command", "--help")
    assert 0 == shown.returncode, shown.stderr
    for entries in SECTIONS.values():
        for entry in entries:
            assert f"  {entry.name} " in shown.stdout
            assert entry.summary in " ".join(shown.stdout.split())


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_a_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # The client reads the arguments of `ask` with argparse, which exits after the help.
    with contextlib.suppress(SystemExit):
        assert 0 == command_line.run(holdline, "holdline", [name, "--help"])
    shown = capsys.readouterr().out
    assert f"holdline {name}" in shown.splitlines()[0]
    assert "examples:\n" in shown


@pytest.mark.parametrize("name", ["dead", "keys", "signers", "subject", "tenants", "vapid"])
def test_the_help_of_a_group_shows_whole_sentences(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == command_line.run(holdline, "holdline", [name, "--help"])
    _, _, listed = capsys.readouterr().out.partition("\nCommands:\n")
    for line in listed.splitlines():
        assert line.endswith("."), line
        assert not line.endswith("..."), line


def test_wrong_usage_is_reported_in_one_line_that_names_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert 2 == command_line.run(holdline, "holdline", ["server", "--wrong"])
    assert ["holdline server: No such option '--wrong'; see holdline server --help"] == (
        capsys.readouterr().err.splitlines()
    )
    assert 2 == command_line.run(holdline, "holdline", ["serve"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("holdline: No such command 'serve'")
    assert "server" in line, "the error does not name the most similar command"


def test_a_missing_choice_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == command_line.run(holdline, "holdline", ["completion"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "Choose from: bash, zsh, fish; see holdline completion --help" in line


def test_the_command_without_arguments_shows_its_help() -> None:
    shown = run_module("command")
    assert 2 == shown.returncode
    assert "  server " in shown.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["completion", "bash"], ["ask", "--version"], ["keys", "list"]],
    ids=" ".join,
)
def test_output_that_cannot_be_written_is_reported_in_one_line(
    arguments: list[str], tmp_path: Path
) -> None:
    environ = clean_environ() | {"HOLDLINE_API_KEYS": str(tmp_path / "keys.json")}
    environ.pop("PYTHONUNBUFFERED", None)
    with Path("/dev/full").open("w") as full:
        shown = subprocess.run(
            [*module_command("command"), *arguments],
            cwd=ROOT,
            env=environ,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=50,
            check=False,
        )
    (line,) = shown.stderr.splitlines()
    assert 1 == shown.returncode
    assert line.startswith("holdline")
    assert line.endswith("No space left on device")


def test_ctrl_c_during_the_imports_ends_the_command_without_a_traceback() -> None:
    code = (
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'click':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        f"from {PREFIX}command.__main__ import main\n"
        "sys.exit(main())\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (130, "") == (shown.returncode, shown.stderr)


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (("--help",), ("aiohttp", "openai", "redis", "server", "worker")),
        (("server", "--help"), ("openai", "worker")),
        (("worker", "--help"), ("server",)),
    ],
)
def test_a_command_imports_only_its_own_program(
    arguments: tuple[str, ...], absent: tuple[str, ...]
) -> None:
    code = (
        "import sys\n"
        f"from {PREFIX}command.root import holdline\n"
        f"from {PREFIX}runtime import command_line\n"
        f"command_line.run(holdline, 'holdline', {arguments!r})\n"
        f"names = {{name.removeprefix({PREFIX!r}) for name in sys.modules}}\n"
        f"print('imported:', sorted({{*{absent!r}}} & names))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True
    )
    assert "imported: []" == shown.stdout.splitlines()[-1]
