"""Lists the files of other projects in `web/vendor/`, with their versions and licences.

The list is `web/vendor/VERSIONS`. The wheel and the npm package contain it as the file `NOTICE`,
with the text of each licence. The SBOM of a release contains the packages.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

VENDOR: Final = "web/vendor"
OWN: Final = "Apache-2.0"
HEAD: Final = """\
Holdline

Holdline has the Apache License 2.0, in the file LICENSE. It contains files of the following
projects, unmodified and under their own licences."""


@dataclass(frozen=True)
class Vendored:
    """A package of another project, of which `web/vendor/` contains some files."""

    name: str
    version: str
    # The SPDX identifier of the licence, and its text.
    licence: str
    text: str
    # The SHA-512 digest of each file in hexadecimal digits, by the path below `web/vendor/`.
    files: dict[str, str]


def vendored(root: Path) -> list[Vendored]:
    """Returns the packages of `VERSIONS`, sorted by name."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for line in (root / VENDOR / "VERSIONS").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, version, licence, file, digest = line.split()
            files = found.setdefault((name, version, licence), {})
            files[file] = base64.b64decode(digest.removeprefix("sha512-")).hex()
    return [
        Vendored(*package, _licence_text(root, files), files)
        for package, files in sorted(found.items())
    ]


def _licence_text(root: Path, files: dict[str, str]) -> str:
    [path] = [file for file in files if file.endswith("/LICENSE")]
    return (root / VENDOR / path).read_text(encoding="utf-8").strip()


def notice(root: Path) -> str:
    """Returns the text of the file `NOTICE`."""
    parts = [HEAD]
    for package in vendored(root):
        folders = sorted({f"{VENDOR}/{file.split('/', maxsplit=1)[0]}/" for file in package.files})
        title = f"{package.name} {package.version} ({package.licence}), in {', '.join(folders)}"
        parts.append(f"{title}\n{'-' * len(title)}\n\n{package.text}")
    return "\n\n\n".join(parts) + "\n"


def licence_expression(root: Path) -> str:
    """Returns the SPDX expression of all licences in a package with the vendored files."""
    return " AND ".join([OWN, *sorted({package.licence for package in vendored(root)} - {OWN})])
