"""Writes the list of all parts of the server (SBOM, in CycloneDX) and checks their licences.

cyclonedx-py reads the parts in Python from an environment with the wheel and its locked
dependencies. The vendored files of `web/vendor/` are added from their own list.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from dev.notices import vendored

from .tools import ReleaseError

if TYPE_CHECKING:
    from pathlib import Path

    from .source import Source
    from .tools import Tools

SPEC: Final = "1.6"
# SPDX identifiers. MPL-2.0 covers only the files that have it, and Holdline does not change them.
ALLOWED: Final = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
        "Python-2.0",
        "Unlicense",
        "Zlib",
    }
)
# Old metadata names a licence by its classifier on the package index.
CLASSIFIERS: Final = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
# The licences of packages whose metadata names none, from the texts in their wheels.
UNSTATED: Final = {"protobuf": "BSD-3-Clause"}
# Writes the errors of a document, or nothing.
_VALIDATE: Final = """\
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
validator = JsonStrictValidator(SchemaVersion.from_version(sys.argv[2]))
found = validator.validate_str(open(sys.argv[1]).read())
sys.exit(str(found) if found else 0)
"""


def write(
    source: Source, tools: Tools, python: Path, project: Path, folder: Path
) -> dict[str, str]:
    """Writes the SBOM of an environment to a folder, and returns each part's licence by its name.

    `python` is the interpreter of the environment, and `project` the file pyproject.toml of the
    server, which is installed in it.

    Raises:
        ReleaseError: the SBOM is not valid, or a licence is unknown or not allowed.
    """
    target = folder / f"holdline-{source.version}.cdx.json"
    tools.run(
        *("cyclonedx-py", "environment", "--output-reproducible", "--mc-type", "application"),
        *("--spec-version", SPEC, "--output-format", "JSON", "--output-file", target),
        *("--pyproject", project, python),
    )
    document = json.loads(target.read_text(encoding="utf-8"))
    for component in document["components"]:
        if component["name"] in UNSTATED:
            component["licenses"] = [{"license": {"id": UNSTATED[component["name"]]}}]
    document["components"] += _vendored(source.folder)
    target.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    tools.run("python", "-c", _VALIDATE, target, SPEC)
    return check_licences(document["components"])


def _vendored(root: Path) -> list[dict[str, Any]]:
    """Returns the components of the vendored files."""
    return [
        {
            "type": "library",
            "bom-ref": f"{package.name}@{package.version}",
            "name": package.name,
            "version": package.version,
            "purl": f"pkg:npm/{quote(package.name)}@{package.version}",
            "licenses": [{"license": {"id": package.licence}}],
            "components": [
                {
                    "type": "file",
                    "bom-ref": f"web/vendor/{file}",
                    "name": f"web/vendor/{file}",
                    "hashes": [{"alg": "SHA-512", "content": digest}],
                }
                for file, digest in sorted(package.files.items())
            ],
        }
        for package in vendored(root)
    ]


def check_licences(components: list[dict[str, Any]]) -> dict[str, str]:
    """Returns the licence of each component by its name.

    Raises:
        ReleaseError: a licence is unknown or not allowed.
    """
    found: dict[str, str] = {}
    refused: list[str] = []
    for component in components:
        name = component["name"]
        licence = _licence(component.get("licenses", []))
        found[name] = licence
        if not licence or not set(re.findall(r"[^() ]+", licence)) - {"AND", "OR"} <= ALLOWED:
            refused.append(f"{name} {component.get('version')}: {licence or 'no licence'}")
    if refused:
        raise ReleaseError("these licences are unknown or not allowed:\n" + "\n".join(refused))
    return found


def _licence(licences: list[dict[str, Any]]) -> str:
    """Returns the licences of a component as an SPDX expression."""
    stated = (
        each.get("expression") or each["license"].get("id") or each["license"].get("name", "")
        for each in licences
    )
    return " AND ".join(sorted({CLASSIFIERS.get(name, name) for name in stated}))
