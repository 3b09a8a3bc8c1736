"""Stages the tests so that they import the installed wheels instead of the checkout.

`python -m dev.wheel_tests FOLDER` fills an empty folder with the files of the checkout except the
packages of the wheels, and rewrites the imports of the tests as `dev.wheel` rewrites those of the
packages. In this folder, `server` and `jobs` cannot be imported. `make test-wheel` runs the tests.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Final

from dev.checkout import checkout_files
from dev.staging import main
from dev.wheel import FOLDERS, ROOT, module_names, rewrite, rewrite_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The client has a wheel of its own, in which its package keeps its name. The tests must not import
# the copy in the server's wheel beside it: its classes are others.
CLIENT: Final = "holdline_client"
SERVER: Final = tuple(folder for folder in FOLDERS if folder != CLIENT)


def stage(target: Path, root: Path = ROOT) -> None:
    """Fills `target`, an empty or missing folder, with the tests and the files that they read."""
    modules = {name for name in module_names(root) if name.partition(".")[0] != CLIENT}
    for name in _files(root):
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".py"):
            source = (root / name).read_text(encoding="utf-8")
            staged = rewrite(source, name, modules, strict=False, folders=SERVER)
            place.write_text(staged, encoding="utf-8")
        elif name.endswith(".md"):
            text = (root / name).read_text(encoding="utf-8")
            place.write_text(rewrite_text(text, SERVER), encoding="utf-8")
        else:
            shutil.copyfile(root / name, place)


def _files(root: Path) -> Iterator[str]:
    """Returns the files of the checkout that no wheel contains, also those not yet committed."""
    for name in checkout_files(root):
        if name.partition("/")[0] not in FOLDERS and not (root / name).is_symlink():
            yield name


if __name__ == "__main__":
    sys.exit(main("wheel_tests", __doc__, stage, None))
