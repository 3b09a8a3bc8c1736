"""Tests that all workers pause a model when the model's provider requests a pause."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.ids import new_response_id
from jobs.record import Job
from jobs.redis.pipe import Pipe
from tests.fake_model import FakeModel
from tests.jobs.factories import NAMES, opening
from tests.worker.conftest import MakeHarness


@pytest.mark.parametrize("fallback", [False, True])
async def test_a_429_pauses_the_model_unless_a_fallback_can_answer(
    make_harness: MakeHarness, model: FakeModel, pipe: Pipe, tmp_path: Path, fallback: bool
) -> None:
    path = tmp_path / "models.toml"
    tables = f'[models.m]\nbase_url = "{model.url}"\n'
    if fallback:
        tables += f'fallbacks = ["n"]\n[models.n]\nbase_url = "{model.url}"\n'
    path.write_text(tables)
    async with make_harness(HOLDLINE_MODELS=str(path)) as harness:
        queue = harness.context.queue
        for claim in ("first", "second"):
            job = Job(new_response_id(0), "me", 1, {"model": "m", "input": "mode=busy after=30"})
            await queue.submit(job, opening(job), queue_name="d:m")
            for grant in await queue.leases.claim(0, claim, 1):
                await harness.execution(grant).run()
        assert (0 if fallback else 1) == await pipe.call("EXISTS", NAMES.pause("m"))
        if not fallback:
            assert 1 == len(model.calls), "the second one is not even claimed"
            assert (
                "provider_rate"
                == (await queue.queue_positions(0, [("d:m", "me")]))[1]["d:m", "me"][2]
            )
