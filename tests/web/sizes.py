"""Prints the compressed size of what a page loads for a chat widget.

Run `python tests/web/sizes.py`. For Holdline, it measures the files that the server sends, with
gzip -9. For other widgets, it measures the browser bundles that they publish, which npm packs into
a temporary folder; `--ours` omits them. Chainlit's copilot is not on npm.
"""

from __future__ import annotations

import gzip
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from server.http.static import Pages  # noqa: E402 - the checkout is what runs

PEERS = {
    "deep-chat": ["dist/deepChat.bundle.js"],
    "@botpress/webchat": ["dist/index.js", "dist/style.css"],
    "flowise-embed": ["dist/web.js"],
    "@n8n/chat": ["dist/chat.bundle.es.js", "dist/style.css"],
}


def packed(content: bytes) -> int:
    return len(gzip.compress(content, 9, mtime=0))


def ours() -> dict[str, int]:
    """Returns Holdline's sizes for each stage of loading, in loading order."""
    pages = Pages()
    marked, core, python = (
        len(pages._assets[f"vendor/{name}"].packed)
        for name in (
            "marked/marked.esm.js",
            "highlight/core.min.js",
            "highlight/languages/python.min.js",
        )
    )
    first, later = len(pages.widget.packed), len(pages.packed["turns.js"].packed)
    return {
        "empty widget, with the client": first,
        "empty widget, with the client and the Markdown parser `marked`": first + marked,
        "widget with a rendered answer": first + later,
        "widget with a rendered answer and highlighted Python code": first + later + core + python,
    }


def theirs(name: str, files: list[str], folder: Path) -> tuple[str, int]:
    """Returns the version and the bundle size of another widget's package."""
    ran = subprocess.run(
        ["npm", "pack", "--silent", name], cwd=folder, capture_output=True, text=True, check=True
    )
    archive = ran.stdout.split()[-1]
    found = re.search(r"-(\d[\w.-]*)\.tgz$", archive)
    size = 0
    with tarfile.open(folder / archive) as tar:
        names = set(tar.getnames())
        for file in files:
            member = f"package/{file}"
            opened = tar.extractfile(member) if member in names else None
            size += packed(opened.read()) if opened else 0
    return found[1] if found else "?", size


def main() -> None:
    for what, size in ours().items():
        print(f"{size:>9,}  Holdline: {what}")
    if "--ours" in sys.argv:
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, files in PEERS.items():
            version, size = theirs(name, files, Path(folder))
            print(f"{size:>9,}  {name} {version}")


if __name__ == "__main__":
    main()
