"""The commit from which a release is built."""

from __future__ import annotations

import tarfile
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .tools import ReleaseError, run

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Source:
    """The files of a commit in a folder of their own, without the files that git ignores."""

    folder: Path
    version: str
    # The time of the commit in seconds since 1970.
    epoch: int


def export(root: Path, target: Path) -> Source:
    """Copies the newest commit of the checkout `root` to `target`, a missing folder.

    Raises:
        ReleaseError: a file of the checkout differs from the commit.
    """
    changed = run("git", "status", "--porcelain", "--untracked-files=no", cwd=root)
    if changed:
        raise ReleaseError(f"commit or undo these changes first:\n{changed.rstrip()}")
    archive = target.with_suffix(".tar")
    run("git", "archive", "--format=tar", "--output", archive, "HEAD", cwd=root)
    with tarfile.open(archive) as packed:
        packed.extractall(target, filter="data")
    archive.unlink()
    project = tomllib.loads((target / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    epoch = run("git", "log", "-1", "--format=%ct", cwd=root)
    return Source(target, project["version"], int(epoch))


def check_tag(source: Source, tag: str) -> None:
    """Checks that a tag names the version, and that the list of changes has a section about it.

    Raises:
        ReleaseError: the tag or the list of changes is wrong.
    """
    if tag != f"v{source.version}":
        raise ReleaseError(f"the tag {tag} does not match version {source.version} of pyproject")
    changes = (source.folder / "CHANGELOG.md").read_text(encoding="utf-8")
    if f"\n## {source.version}" not in changes:
        raise ReleaseError(f"CHANGELOG.md has no section `## {source.version}`")
