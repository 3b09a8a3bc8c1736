"""Adds up the metrics of the processes of one program, so that a scrape of any of them is complete.

The processes share a port, so a scrape reaches a random one of them. Each process writes its values
to a file every few seconds, and before it answers a scrape. The answer is the sum of all files. The
supervisor owns the folder of these files. When a process has ended, the supervisor adds the totals
of its file to the file `ended`, so that no counter falls. A process that is killed loses only what
it has counted since it last wrote its file, which no scrape has seen.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

import msgspec

from .loop import Loop
from .metrics import LabelValues, State, merged, render

if TYPE_CHECKING:
    from pathlib import Path

    from .metrics import Registry

WRITE_SECONDS: Final = 5.0
_ENDED: Final = "ended"
# A reader may have read the file of a process just before the supervisor has added it to `ended`.
# The reader recognizes this by the last names in `ended`.
_REMEMBERED: Final = 100

_Children = list[tuple[list[str], list[float]]]


class _File(msgspec.Struct):
    """The content of a file. JSON has no tuples as keys, so children are lists."""

    totals: dict[str, _Children] = {}
    gauges: dict[str, _Children] = {}
    names: list[str] = []


class MetricsPage:
    """The page `/metrics` of a process. Use it as an async context manager.

    `file` is the file of this process, or None if the program has only one process.
    """

    def __init__(self, registry: Registry, file: Path | None) -> None:
        self._registry = registry
        self._file = file
        self._supervisor = os.getppid()
        pause = (WRITE_SECONDS, WRITE_SECONDS)
        self._loop = Loop("metrics", self._tick, pause, ignored=(OSError,))

    async def __aenter__(self) -> Self:
        if self._file is not None:
            self._loop.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._loop.stop()
        if self._file is not None:
            with suppress(OSError):
                _write(self._file, self._registry.state())
            if os.getppid() != self._supervisor:
                # The supervisor was killed, so it cannot remove its folder.
                shutil.rmtree(self._file.parent, ignore_errors=True)

    def render(self) -> bytes:
        """Returns the values of all processes of the program in the text format."""
        metrics, own = self._registry.metrics, self._registry.state()
        if self._file is None:
            return render(metrics, own)
        # The file is written first. Otherwise a counter would fall if this process were killed
        # after the scrape.
        with suppress(OSError):
            _write(self._file, own)
        live, ended = read_folder(self._file.parent)
        live.pop(self._file.name, None)
        return render(metrics, merged(metrics, [own, *live.values()], ended))

    async def _tick(self) -> None:
        if self._file is not None:
            _write(self._file, self._registry.state())


def read_folder(folder: Path) -> tuple[dict[str, State], State]:
    """Returns the values of the live processes by the names of their files, and of ended ones."""
    live = {}
    for path in sorted(folder.glob("[0-9]*")):
        if path.suffix:
            continue  # a file that is being written
        with suppress(OSError, msgspec.DecodeError):
            live[path.name] = _state(_read(path))
    # `ended` is read last, so it contains each process whose file has disappeared meanwhile.
    ended = _File()
    with suppress(OSError, msgspec.DecodeError):
        ended = _read(folder / _ENDED)
    for name in ended.names:
        live.pop(name, None)
    return live, _state(ended)


def merge_ended(file: Path) -> None:
    """Adds the totals of an ended process to those of earlier ones, and removes its file.

    Only the supervisor calls this function. It does nothing if the process has written no file.
    """
    with suppress(OSError, msgspec.DecodeError):
        last = _state(_read(file))
        path = file.parent / _ENDED
        before = _File()
        with suppress(FileNotFoundError):
            before = _read(path)
        state = State(_state(before).totals)
        state.add_totals(last)
        _write(path, state, [*before.names, file.name][-_REMEMBERED:])
        file.unlink()


def _write(path: Path, state: State, names: list[str] | None = None) -> None:
    """Replaces a file at once, so that no reader gets a part of it. Raises: OSError."""
    content = _File(_lists(state.totals), _lists(state.gauges), names or [])
    scratch = path.with_suffix(".new")
    scratch.write_bytes(msgspec.json.encode(content))
    scratch.replace(path)


def _read(path: Path) -> _File:
    return msgspec.json.decode(path.read_bytes(), type=_File)


def _state(file: _File) -> State:
    return State(_tuples(file.totals), _tuples(file.gauges))


def _lists(kind: dict[str, dict[LabelValues, list[float]]]) -> dict[str, _Children]:
    return {
        name: [([*values], numbers) for values, numbers in children.items()]
        for name, children in kind.items()
    }


def _tuples(kind: dict[str, _Children]) -> dict[str, dict[LabelValues, list[float]]]:
    return {
        name: {tuple(values): numbers for values, numbers in children}
        for name, children in kind.items()
    }
