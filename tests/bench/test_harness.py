"""Runs the benchmark harness with tiny sizes. The measured values are not checked."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report, rig
from bench.__main__ import chosen, found
from bench.processes import BenchError
from bench.rig import Rig
from bench.run import run

ROOT = Path(__file__).parent.parent.parent


async def test_the_queue_measure_runs_and_its_result_is_formatted() -> None:
    (measure,) = chosen(["p3"])
    small = replace(measure, sizes={"quick": {"jobs": 50, "peer divisor": 1}})
    outcome = await run(small, "quick", 1, lambda _: None)
    found = report.result(outcome)
    assert found["figures"]["holdline"]["commands"]["median"] > 3
    assert "P3" in report.for_terminal(found)
    assert "| holdline |" in report.for_document([found])


async def test_the_memory_measure_runs_against_real_processes() -> None:
    (measure,) = chosen(["P11"])
    small = replace(measure, sizes={"quick": {"tokens": (20,)}}, bounds=())
    outcome = await run(small, "quick", 1, lambda _: None)
    figures = outcome.figures()["20 tokens, at once"]
    assert len("".join(f"tok{number} " for number in range(20))) == figures["text"].median
    assert figures["redis"].median > figures["text"].median


@pytest.mark.heavy
async def test_the_gateway_measures_run_without_their_peers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rig, "PEERS_PYTHON", tmp_path / "python")
    monkeypatch.setattr(rig, "NODE_MODULES", tmp_path)
    sizes = {
        "P13": {"tokens": 20, "answers": 4, "connections": 2, "LiteLLM divisor": 2},
        "P15": {"rate": 20, "seconds": 1, "tokens": 20},
    }
    for name, size in sizes.items():
        (measure,) = chosen([name])
        outcome = await run(replace(measure, sizes={"quick": size}), "quick", 1, lambda _: None)
        assert outcome.figures()["holdline"]
        assert {"agentic-api"} <= outcome.left_out.keys()
        assert name in report.for_terminal(report.result(outcome))


async def test_a_failed_bench_process_is_reported_with_its_last_output() -> None:
    async with Rig() as started:
        noop = started.ours("noop")
        assert "ok" == await noop.ask("fill 1")
        with pytest.raises(BenchError, match="unknown command: \\['nonsense'\\]"):
            await noop.ask("nonsense")


async def test_a_rig_leaves_no_process_and_no_folder() -> None:
    async with Rig() as started:
        redis = started.redis.popen
    assert redis.poll() is not None
    assert not await asyncio.to_thread(started.folder.exists)


def test_each_performance_target_has_a_measure() -> None:
    # P4 also checks the limit of P5, because the two measures use the same sockets and bursts.
    # P13 also checks the limits of P14, because the two measures use the same answers.
    assert [f"P{number}" for number in range(1, 20) if number not in (5, 14)] == list(found())
    assert ["P4", "P13"] == [measure.name for measure in chosen(["P5", "p4", "P14"])]
    with pytest.raises(SystemExit, match="unknown measure P99"):
        chosen(["P99"])


def test_the_performance_page_describes_each_measure() -> None:
    page = report.DOCUMENT.read_text(encoding="utf-8")
    for number in range(1, 20):
        assert re.search(rf"^\| (P\d+, )?P{number}\b", page, re.MULTILINE), number
