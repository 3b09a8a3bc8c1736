"""Builds a release from the newest commit, checks it, and writes its checksums.

`make release` runs this program. It empties the folder, and then writes into it the Python
distributions, the npm package, the manifests for Kubernetes, the image, the list of all parts with
their licences (SBOM), and SHA256SUMS. Two runs on one machine write the same bytes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dev.staging import StagingError

from . import artefacts, checks, sbom
from .source import check_tag, export
from .tools import LeftOut, ReleaseError, Tools

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parent.parent.parent


def build(root: Path, tools: Path, target: Path, tag: str) -> None:
    """Builds and checks a release of the checkout `root` in the folder `target`.

    `tools` is the environment of dev/release/requirements.txt. A tag must match the version.
    Without a tag, an artefact whose program is missing is left out.

    Raises:
        ReleaseError: an artefact cannot be built, or does not pass a check.
        StagingError: a package cannot be staged.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="holdline-release-") as folder:
        scratch = Path(folder)
        source = export(root, scratch / "source")
        if tag:
            check_tag(source, tag)
        using = Tools(tools, source.epoch)
        artefacts.python_distributions(source, using, scratch, target)
        checks.check_metadata(using, target)
        artefacts.npm_package(source, using, scratch, target)
        python = checks.install_server(source, using, target, scratch)
        checks.install_client(source, using, target, scratch)
        licences = sbom.write(source, using, python, scratch / "server/pyproject.toml", target)
        for further in (
            partial(artefacts.manifests, source, using, scratch, target),
            partial(artefacts.image, source, using, root, scratch, target),
        ):
            try:
                further()
            except LeftOut as error:
                if tag:
                    raise
                print(f"left out: {error}")
        artefacts.write_sums(target)
    for licence, count in sorted(Counter(licences.values()).items()):
        print(f"{count:4} parts have the licence {licence}")
    for path in sorted(target.iterdir()):
        print(f"{path.stat().st_size:10} {path.name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the arguments, builds the release and returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m dev.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="the folder to empty and to fill")
    parser.add_argument("--tools", type=Path, required=True, help="the environment of the tools")
    parser.add_argument("--tag", default="", help="a tag that must match the version")
    parsed = parser.parse_args(arguments)
    os.umask(0o022)
    try:
        build(ROOT, parsed.tools.absolute(), parsed.folder.absolute(), parsed.tag)
    except (ReleaseError, StagingError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
