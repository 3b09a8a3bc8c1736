"""Checks the built distributions: their metadata, their files, and that they run when installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tools import ReleaseError, run

if TYPE_CHECKING:
    from pathlib import Path

    from .source import Source
    from .tools import Tools


def check_metadata(tools: Tools, built: Path) -> None:
    """Checks the metadata of the Python distributions, and that the wheels contain nothing else.

    Raises:
        ReleaseError: a check failed.
    """
    wheels = sorted(built.glob("*.whl"))
    tools.run("twine", "check", "--strict", *wheels, *sorted(built.glob("*.tar.gz")))
    tools.run("check-wheel-contents", *wheels)


def install_server(source: Source, tools: Tools, built: Path, scratch: Path) -> Path:
    """Installs the server's wheel with its locked dependencies, runs it and returns its Python.

    Raises:
        ReleaseError: the wheel cannot be installed, or does not run.
    """
    [wheel] = built.glob("holdline_server-*.whl")
    lock = source.folder / "requirements.txt"
    python = tools.environment(scratch / "installed", "--require-hashes", "-r", lock)
    tools.run("uv", "pip", "install", "--quiet", "--no-deps", "--python", python, wheel)
    tools.run("uv", "pip", "check", "--quiet", "--python", python)
    run(python.parent / "holdline", "--help", cwd=python.parent, environ=tools.environ)
    ask = "from holdline_server.runtime.version import program_version as v; print(v())"
    _expect_version(source, run(python, "-c", ask, cwd=python.parent, environ=tools.environ))
    return python


def install_client(source: Source, tools: Tools, built: Path, scratch: Path) -> None:
    """Installs the client's wheel with the newest dependencies that it allows, and runs it.

    Raises:
        ReleaseError: the wheel cannot be installed, or does not run.
    """
    [wheel] = built.glob("holdline_client-*.whl")
    python = tools.environment(scratch / "client", wheel)
    tools.run("uv", "pip", "check", "--quiet", "--python", python)
    ask = python.parent / "holdline-ask"
    _expect_version(source, run(ask, "--version", cwd=python.parent, environ=tools.environ))


def _expect_version(source: Source, shown: str) -> None:
    if shown.split()[-1:] != [source.version]:
        raise ReleaseError(f"the installed version is not {source.version}: {shown}")
