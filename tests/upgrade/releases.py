"""Unpacks a released version of Holdline, so that its programs run beside those of the checkout."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dev.checkout import checkout_files
from tests.system import ROOT

VERSIONS: Final = Path(__file__).parent / "versions.toml"
LOCKED: Final = "requirements.txt"
# The parts of the checkout that no program needs.
LEFT_OUT: Final = (":!bench", ":!tests")


@dataclass(frozen=True)
class Release:
    """A version of Holdline that is installed in `folder` and runs with the interpreter `python`.

    Its programs run with `folder` as their working directory.
    """

    version: str
    folder: Path
    python: str


def newest() -> tuple[str, str]:
    """Returns the newest released version and its commit."""
    versions: dict[str, str] = tomllib.loads(VERSIONS.read_text())
    return max(versions.items(), key=lambda pair: [int(part) for part in pair[0].split(".")])


def unpack(folder: Path, *, own_environment: bool = False) -> Release:
    """Unpacks the newest released version into `folder`.

    If this clone lacks the version's commit, the checkout takes its place.

    The version runs with the packages of the tests, unless its locked requirements differ from
    those of the checkout. Then, or with `own_environment`, it gets an environment of its own.
    """
    version, commit = newest()
    folder.mkdir(parents=True)
    archive = ["git", "archive", "--format=tar", commit, "--", ".", *LEFT_OUT]
    packed = subprocess.run(archive, cwd=ROOT, capture_output=True, timeout=50, check=False)
    if packed.returncode == 0:
        subprocess.run(["tar", "-x", "-C", folder], input=packed.stdout, timeout=50, check=True)
    else:
        print(f"{commit} is missing, so the checkout runs as {version}; run git fetch --unshallow")
        copy_checkout(folder)
    locked = folder / LOCKED
    if own_environment or locked.read_bytes() != (ROOT / LOCKED).read_bytes():
        return Release(version, folder, str(environment(locked)))
    return Release(version, folder, sys.executable)


def copy_checkout(folder: Path) -> None:
    for name in checkout_files():
        if not name.startswith(("bench/", "tests/", "torture/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def environment(locked: Path) -> Path:
    """Returns the interpreter of an environment with these locked requirements.

    Creates it if it does not exist yet, which downloads the packages.
    """
    digest = hashlib.sha256(locked.read_bytes() + sys.version.encode()).hexdigest()[:12]
    place = ROOT / f".venv-release-{digest}"
    python = place / "bin/python"
    with (Path(tempfile.gettempdir()) / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel tests create it once
        if not (place / ".installed").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", place], timeout=50, check=True)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            argv = [*pip, "--require-hashes", "-r", locked]
            subprocess.run([*map(str, argv)], timeout=600, check=True)
            (place / ".installed").touch()
    return python
