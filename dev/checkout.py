"""Lists the files of the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parent.parent
# Folders that the tools make, and whose names do not begin with a dot.
MADE: Final = frozenset({"__pycache__", "chaos-report", "dist", "local", "node_modules"})


def checkout_files(root: Path = ROOT) -> list[str]:
    """Returns the sorted paths of the files that git does not ignore, relative to `root`.

    An unpacked archive is no repository. There, the files in folders that tools make are left out.
    """
    argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    names = listed.stdout.split("\0") if listed.returncode == 0 else _found(root, root)
    return sorted({name for name in names if name and (root / name).is_file()})


def _found(folder: Path, root: Path) -> Iterator[str]:
    for path in folder.iterdir():
        if path.is_file():
            yield path.relative_to(root).as_posix()
        elif path.name not in MADE and (
            not path.name.startswith(".") or path.name in {".ci", ".github"}
        ):
            yield from _found(path, root)
