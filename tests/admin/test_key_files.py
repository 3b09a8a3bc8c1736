"""Tests the errors of the commands that read and change key files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import run

API_KEYS, SIGNERS, VAPID = "HOLDLINE_API_KEYS", "HOLDLINE_JWT_KEYS", "HOLDLINE_VAPID_KEYS"


@pytest.mark.parametrize(
    ("setting", "command"),
    [
        (API_KEYS, "keys create acme"),
        (API_KEYS, "keys list"),
        (API_KEYS, "keys revoke ID"),
        (SIGNERS, "signers add shop"),
        (SIGNERS, "signers list"),
        (SIGNERS, "signers remove shop"),
        (VAPID, "vapid create"),
        (VAPID, "vapid list"),
        (VAPID, "vapid remove ID"),
    ],
)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "the path is not a regular file"),
        (b"\xff", "the file cannot be read: UnicodeDecodeError"),
        (b"{", ""),
    ],
    ids=["folder", "not UTF-8", "not JSON"],
)
def test_a_file_that_cannot_be_read_is_named_with_its_setting_and_the_command(
    setting: str,
    command: str,
    content: bytes | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "keys.json"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    assert error_of(command, setting, path, monkeypatch, capsys).startswith(reason)


@pytest.mark.parametrize(
    ("setting", "command"),
    [(API_KEYS, "keys create acme"), (SIGNERS, "signers add shop"), (VAPID, "vapid create")],
)
def test_a_file_that_cannot_be_written_is_named_with_its_setting(
    setting: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "missing" / "keys.json"
    reason = error_of(command, setting, path, monkeypatch, capsys)
    assert "the file cannot be written: FileNotFoundError" == reason


def error_of(
    command: str,
    setting: str,
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Runs a command that must fail, and returns the reason in its error.

    The error must be one line that begins with the command, the setting and the path.
    """
    monkeypatch.setenv("HOLDLINE_AUDIT", "stderr")
    monkeypatch.setenv(setting, str(path))
    assert 78 == run(*command.split())
    [line] = [each for each in capsys.readouterr().err.splitlines() if each.startswith("holdline")]
    name = " ".join(command.split()[:2])
    prefix = f"holdline {name}: {setting}={path}: "
    assert line.startswith(prefix), line
    return line.removeprefix(prefix)
