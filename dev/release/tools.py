"""Runs the programs that build and check a release."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# No step takes longer, not even the download of all dependencies.
MAX_SECONDS: Final = 900
# The artefacts must not depend on the language, the time zone or the hash seed of the machine.
FIXED: Final = {"LC_ALL": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0"}


class ReleaseError(Exception):
    """The release cannot be built or did not pass a check; the message says why."""


class LeftOut(ReleaseError):
    """A program for one artefact is missing; the message names the artefact and the program."""


@dataclass(frozen=True)
class Tools:
    """The environment of dev/release/requirements.txt, and the time that the artefacts state."""

    folder: Path
    # Seconds since 1970; see https://reproducible-builds.org/specs/source-date-epoch/.
    epoch: int

    def run(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Runs one of the programs in the environment and returns its output.

        Raises:
            ReleaseError: the program failed.
        """
        return run(self.folder / "bin" / program, *arguments, cwd=cwd, environ=self.environ)

    @property
    def environ(self) -> dict[str, str]:
        """The environment variables of all programs."""
        return {**os.environ, **FIXED, "SOURCE_DATE_EPOCH": str(self.epoch)}

    def environment(self, folder: Path, *installed: str | Path) -> Path:
        """Makes an environment, installs packages in it and returns its Python.

        `installed` are arguments of `uv pip install`.
        """
        self.run("uv", "venv", "--quiet", "--python", self.folder / "bin/python", folder)
        python = folder / "bin/python"
        install = ("pip", "install", "--quiet", "--python", python)
        # The system's certificates include that of a company proxy that intercepts TLS.
        self.run("uv", "--system-certs", *install, *installed)
        return python


def run(
    program: str | Path,
    *arguments: str | Path,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> str:
    """Runs a program and returns its output.

    Raises:
        ReleaseError: the program is missing, failed or took too long.
    """
    try:
        done = subprocess.run(
            [program, *arguments],
            cwd=cwd,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAX_SECONDS,
        )
    except FileNotFoundError:
        raise ReleaseError(f"{program} is missing") from None
    except subprocess.TimeoutExpired:
        raise ReleaseError(f"{program} took longer than {MAX_SECONDS} s") from None
    if done.returncode:
        shown = " ".join(map(str, (program, *arguments)))
        raise ReleaseError(f"{shown} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
