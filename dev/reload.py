"""Finds changed source files by polling their modification times, without any dependency."""

import asyncio
import contextlib
import os
from pathlib import Path

POLL_SECONDS = 1.0
# The server keeps the files of web/ in memory, so a change to a .js, .css or .html file also
# requires a restart.
SUFFIXES = (".py", ".lua", ".toml", ".js", ".css", ".html")


class SourceWatcher:
    """Watches the source files below a folder for changes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = self._modified()

    async def changed(self) -> Path:
        """Waits until a file has been changed, added or removed since the last call.

        Returns the path of the file, relative to the root.
        """
        while not (found := self._look()):  # noqa: ASYNC110 - No event announces a change of a file.
            await asyncio.sleep(POLL_SECONDS)
        return min(found).relative_to(self._root)

    def _look(self) -> set[Path]:
        before, self._seen = self._seen, self._modified()
        return {path for path, _ in before.items() ^ self._seen.items()}

    def _modified(self) -> dict[Path, int]:
        found = {}
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if name[0] != "." and name != "node_modules"]
            for path in (Path(folder, name) for name in files if name.endswith(SUFFIXES)):
                with contextlib.suppress(FileNotFoundError):  # The file was removed after os.walk.
                    found[path] = path.stat().st_mtime_ns
        return found
