from __future__ import annotations

import itertools
import os
from pathlib import Path
from random import Random

import pytest

from runtime.metrics import Metric, Registry
from runtime.metrics_files import MetricsPage, merge_ended, read_folder

SENT = Metric("sent_total", "counter", "sent")
OPEN = Metric("open", "gauge", "open")


class Process:
    def __init__(self, file: Path) -> None:
        self.file = file
        registry = Registry()
        self.sent, self.open = registry.value(SENT), registry.value(OPEN)
        self.page = MetricsPage(registry, file)
        self.open.set(True)

    def scrape(self) -> dict[str, float]:
        page = self.page.render().decode()
        rows = (line.split() for line in page.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in rows}


@pytest.fixture
def processes(tmp_path: Path) -> list[Process]:
    return [Process(tmp_path / str(number)) for number in range(3)]


async def test_a_scrape_of_any_process_returns_the_sum(processes: list[Process]) -> None:
    for process in processes:
        process.sent.inc(10)
        async with process.page:
            await process.page._tick()
    for process in processes:
        assert {"sent_total": 30, "open": 3} == process.scrape()


def test_a_counter_does_not_fall_when_a_process_is_killed(processes: list[Process]) -> None:
    first, second, third = processes
    for process in processes:
        process.sent.inc(10)
        process.scrape()
    assert 30 == second.scrape()["sent_total"]
    first.sent.inc(5)
    assert 35 == first.scrape()["sent_total"]
    first.sent.inc(5)  # no scrape has seen these
    merge_ended(first.file)
    assert {"sent_total": 35, "open": 2} == second.scrape()
    merge_ended(second.file)
    assert {"sent_total": 35, "open": 1} == third.scrape()


def test_the_sum_of_fractions_does_not_fall_in_its_last_digit(tmp_path: Path) -> None:
    """Sums of floats depend on their order, and Prometheus treats any decrease as a restart."""
    for seed in range(200):
        folder = tmp_path / str(seed)
        folder.mkdir()
        processes = [Process(folder / str(number)) for number in range(4)]
        random = Random(seed)
        for process in processes:
            process.sent.inc(random.random() * 100)
            process.scrape()
        seen = [one.scrape()["sent_total"] for one in processes]
        for process in processes[:3]:
            merge_ended(process.file)
            seen.append(processes[3].scrape()["sent_total"])
        assert 1 == len({*seen})


def test_a_scrape_during_the_merge_counts_the_process_once(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader has the process's file already, and then reads its totals in `ended` too."""
    first, second, _ = processes
    first.sent.inc(10)
    first.scrape()
    glob = Path.glob

    def late(folder: Path, pattern: str) -> list[Path]:
        found = [*glob(folder, pattern)]
        content = first.file.read_bytes()
        merge_ended(first.file)
        first.file.write_bytes(content)
        return found

    monkeypatch.setattr(Path, "glob", late)
    assert 10 == second.scrape()["sent_total"]


def test_an_unreadable_file_hides_only_its_process(processes: list[Process]) -> None:
    first, second, _ = processes
    first.sent.inc()
    first.scrape()
    second.file.write_bytes(b"\0")
    third = Process(second.file.with_name("9"))
    assert {"sent_total": 1, "open": 2} == third.scrape()
    merge_ended(second.file)
    assert {"sent_total": 1, "open": 2} == third.scrape()


def test_many_deaths_leave_one_file(tmp_path: Path) -> None:
    for number in range(300):
        process = Process(tmp_path / str(number))
        process.sent.inc()
        process.scrape()
        merge_ended(process.file)
    assert ["ended"] == [path.name for path in tmp_path.iterdir()]
    _, ended = read_folder(tmp_path)
    assert {(): [300.0]} == ended.totals["sent_total"]
    assert (tmp_path / "ended").stat().st_size < 2000


async def test_the_last_process_removes_the_folder_of_a_killed_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.setattr(os, "getppid", itertools.count().__next__)
    async with Process(folder / "0").page:
        pass
    assert not folder.exists()


def test_a_removed_folder_does_not_fail_a_scrape(tmp_path: Path) -> None:
    process = Process(tmp_path / "gone" / "0")
    process.sent.inc()
    assert {"sent_total": 1, "open": 1} == process.scrape()
