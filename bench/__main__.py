"""Runs benchmarks: `python -m bench [P1 ...]`. Writes to bench/results/local by default.

`python -m bench capacity` estimates the size of a deployment, and `python -m bench fleet` simulates
a fleet of workers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from . import measures, report
from .figures import Measure
from .processes import BenchError
from .rig import PEERS_PYTHON
from .run import run, tell_progress

ROUNDS = {"full": 5, "quick": 3}
# The measures that another measure includes.
PART_OF = {"P5": "P4", "P14": "P13"}
# Programs that are no benchmarks, with their own arguments.
PROGRAMS = {"capacity": "bench.capacity", "fleet": "bench.fleet.command"}
# A limit on open files that is high enough for both ends of 20,000 sockets.
FILES = 65_536


def found() -> dict[str, Measure]:
    """Returns all benchmarks by name, in the order P1 to P19."""
    names = [
        it.name
        for it in iter_modules(measures.__path__)
        if it.name[:1] == "p" and it.name[1:3].isdigit()
    ]
    modules = [import_module(f"{measures.__name__}.{name}") for name in sorted(names)]
    return {module.MEASURE.name: module.MEASURE for module in modules}


def chosen(names: list[str]) -> list[Measure]:
    """Returns the benchmarks with the given names, or all benchmarks if there are no names.

    Raises: SystemExit for an unknown name.
    """
    there = found()
    wanted = [PART_OF.get(name.upper(), name.upper()) for name in names] or list(there)
    if unknown := [name for name in wanted if name not in there]:
        raise SystemExit(f"bench: unknown measure {', '.join(unknown)}; known: {', '.join(there)}")
    return [there[name] for name in dict.fromkeys(wanted)]


def more_files() -> None:
    """Raises the limit on open files for the largest benchmark, as far as the system allows."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def measure(wanted: list[Measure], size: str, rounds: int, folder: Path) -> int:
    """Runs benchmarks one after another, and returns the number of failed benchmarks."""
    failed = 0
    for one in wanted:
        began = time.monotonic()
        try:
            outcome = await run(one, size, rounds, tell_progress)
        except (BenchError, OSError, TimeoutError) as error:
            failed += 1
            tell_progress("")
            print(f"{one.name} failed: {type(error).__name__}: {error}\n")
            continue
        kept = report.result(outcome) | {"seconds": round(time.monotonic() - began, 1)}
        report.keep(kept, folder)
        tell_progress("")
        print(report.for_terminal(kept), end="\n\n", flush=True)
    return failed


def publish() -> None:
    """Updates the tables and pictures of docs/performance.md from bench/results."""
    text = report.for_document(report.kept(report.RESULTS))
    document = report.DOCUMENT.read_text(encoding="utf-8")
    report.DOCUMENT.write_text(report.between_markers(document, text), encoding="utf-8")
    if PEERS_PYTHON.exists():
        drawing = Path(__file__).parent / "peers" / "pictures.py"
        subprocess.run([PEERS_PYTHON, drawing], check=True, timeout=120)
    else:
        print("pictures not updated: matplotlib is missing; `make bench` installs it")


def main() -> int:
    """Returns the exit status: 0 if every requested benchmark ran, even if a bound was missed."""
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        program = import_module(PROGRAMS[sys.argv[1]])
        return int(program.main(sys.argv[2:]))
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="P1 to P19; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a rough estimate")
    parser.add_argument("--rounds", type=int, help="number of rounds (default: 5, with --quick 3)")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="store the results in bench/results and update docs/performance.md",
    )
    parser.add_argument(
        "--draw", action="store_true", help="publish the stored results without running anything"
    )
    arguments = parser.parse_args()
    if arguments.draw:
        publish()
        return 0
    if not Path("/proc/self/stat").exists():
        print("bench requires Linux: it reads the CPU time of processes from /proc")
        return 2
    size = "quick" if arguments.quick else "full"
    folder = report.RESULTS if arguments.publish else report.LOCAL
    more_files()
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        work = measure(chosen(arguments.names), size, arguments.rounds or ROUNDS[size], folder)
        failed = runner.run(work)
    if arguments.publish:
        publish()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
