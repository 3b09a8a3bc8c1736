"""Runs the fuzzer for a few seconds: once with a fixed seed and once with a new seed."""

from __future__ import annotations

import os
import random

import pytest

from tests.attacks.conftest import Target
from tests.attacks.fuzz import fuzz

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 3)
pytestmark = pytest.mark.timeout(120 + 3 * SECONDS)


@pytest.mark.parametrize("kind", ["fixed", "fresh"])
async def test_fuzzed_input_causes_no_server_error(target: Target, kind: str) -> None:
    seed = 1 if kind == "fixed" else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    seen = await fuzz(target.url, SECONDS, seed)
    print(dict(seen))
    assert seen["socket"]
    assert seen["decoders"]
