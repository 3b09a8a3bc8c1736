from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.__main__ import PROGRAMS
from bench.capacity import Costs, Load, estimate, idle_commands, lines, main

PAGE = (Path(__file__).parent.parent.parent / "docs" / "scaling.md").read_text(encoding="utf-8")
COSTS = Costs(
    server_per_token=10e-6,
    worker_per_token=20e-6,
    redis_per_token=10e-6,
    server_per_answer=1e-3,
    worker_per_answer=2e-3,
    redis_per_answer=1e-3,
    redis_per_command=1e-6,
    server_per_resume=1e-3,
    socket_bytes=10_000,
    process_bytes=1_000_000,
    answer_bytes=1_000,
    answer_bytes_per_token=10,
)


def test_an_estimate_adds_the_costs_of_tokens_and_answers() -> None:
    load = Load(sockets=1_000, streams=1_000, tokens=100, answer_tokens=1_000, utilization=0.5)
    found = estimate(load, COSTS)
    # 100,000 tokens and 100 answers per second: the server needs 1 + 0.1 cores.
    assert (100_000, 100) == (found.tokens_per_second, found.answers_per_second)
    assert (3, 10) == (found.servers, found.workers)  # ten workers for a thousand streams
    assert (3, 15) == (found.masters, found.partitions)
    assert found.redis_bytes == 100 * 3_600 * 11_000
    assert found.server_bytes == 3 * 1_000_000 + 1_000 * 10_000
    assert found.connections_per_master == 2 * 13


def test_a_small_load_needs_one_process_of_each_kind_and_no_cluster() -> None:
    found = estimate(Load(sockets=10, streams=1), COSTS)
    assert (1, 1, 1, 1) == (found.servers, found.workers, found.masters, found.partitions)


def test_twice_the_load_needs_twice_the_processes() -> None:
    load = Load(sockets=100_000, streams=10_000)
    once, twice = (estimate(replace(load, streams=n * load.streams), COSTS) for n in (1, 2))
    for name in ("servers", "workers", "masters", "redis_bytes"):
        assert getattr(twice, name) == pytest.approx(2 * getattr(once, name), rel=0.1), name


def test_idle_commands_do_not_grow_with_workers_times_partitions() -> None:
    for workers, partitions in ((10, 4), (1_000, 128)):
        once = idle_commands(workers, partitions)
        assert 2 * once == idle_commands(2 * workers, 2 * partitions)
    assert idle_commands(1, 128) < idle_commands(2, 128) < 2 * 10 * 128 + 1


@pytest.mark.parametrize("wrong", [{"streams": -1}, {"tokens": 0.0}, {"utilization": 1.5}])
def test_an_impossible_load_is_rejected(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="the load has"):
        estimate(replace(Load(), **wrong), COSTS)  # type: ignore[arg-type]


def test_the_command_prints_the_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    assert PROGRAMS["capacity"] == "bench.capacity"
    assert main(["--sockets", "5000", "--streams", "500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["servers"] >= 1
    with pytest.raises(SystemExit):
        main(["--tokens", "0"])


def test_the_page_shows_the_estimates_from_the_published_results() -> None:
    """After new results are published, copy the rows of the estimates to the page."""
    for sockets, streams in ((1_000, 100), (20_000, 2_000), (1_000_000, 100_000)):
        load = Load(sockets=sockets, streams=streams)
        found = estimate(load, Costs.measured())
        row = (
            f"| {sockets:,} | {streams:,} | {found.servers:,} | {found.workers:,} "
            f"| {found.masters:,} | {found.partitions:,} |"
        )
        assert row in PAGE, row
        assert lines(load, found)
