"""Tests that a program knows its version, and that one file of the project states it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dev.checkout import checkout_files
from runtime import version as version_module
from runtime.version import UNKNOWN, program_version
from tests.system import ROOT

VERSION: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# The others also name the versions of the past.
STATED = {"pyproject.toml", "CHANGELOG.md", "tests/upgrade/versions.toml"}
# The versions in a lock file are those of dependencies.
LOCKS = re.compile(r"(^|/)(package-lock\.json|[\w-]*requirements[\w-]*\.txt)$|/environments/")
# These state the versions that the torture suite has tested, also after a release.
RESULTS = re.compile(r"^(docs/torture\.md$|torture/results/)")


@pytest.fixture(autouse=True)
def _not_cached() -> None:
    program_version.cache_clear()


def test_a_checkout_has_the_version_of_the_project() -> None:
    assert VERSION == program_version()


def test_a_copy_without_the_project_has_the_version_of_the_installed_wheel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(version_module, "PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(version_module, "DISTRIBUTION", "pytest")
    assert pytest.__version__ == program_version()
    program_version.cache_clear()
    monkeypatch.setattr(version_module, "DISTRIBUTION", "holdline-never-installed")
    assert UNKNOWN == program_version()


@pytest.mark.checkout
def test_no_other_file_states_the_version() -> None:
    """A second place would be forgotten at the next release."""
    stated = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.]*\d)".encode())
    names = [
        name for name in checkout_files() if not LOCKS.search(name) and not RESULTS.search(name)
    ]
    assert "runtime/version.py" in names
    found = {name for name in names if stated.search((ROOT / name).read_bytes())}
    assert STATED == {name for name in found if not name.startswith("deploy/")}


def test_the_files_in_deploy_name_the_image_of_this_version() -> None:
    """They are used without the programs of the checkout, so they state the version themselves."""
    tag = re.compile(r"\bholdline:(\d[\w.-]*)|\bnewTag:\s*\"?([\w.-]+)")
    for path in (ROOT / "deploy").rglob("*.y*ml"):
        for found in tag.findall(path.read_text(encoding="utf-8")):
            assert VERSION == "".join(found), path
