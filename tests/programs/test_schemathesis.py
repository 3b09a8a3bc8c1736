"""Schemathesis, unmodified: every route of `/openapi.json` does what the document says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths.conftest import Shared
from tests.programs.running import environment
from tests.system import run_command

SCHEMATHESIS = environment("schemathesis") / "schemathesis"
SEED = "7"
# What no schema can say: a result needs its call, a choice its tool, and `after` an item before it.
CONFIG = """
[[operations]]
include-path-regex = "chat/completions|responses"
[operations.checks]
positive_data_acceptance.enabled = false

# Its own list lacks 413, for a body that is too large besides.
[checks.negative_data_rejection]
expected-statuses = [
  "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx",
]
"""


async def check(shared: Shared, folder: Path, *options: str) -> None:
    """A run of its checks against a server, by its document."""
    (folder / "schemathesis.toml").write_text(CONFIG)
    await run_command(
        str(SCHEMATHESIS),
        "run",
        f"{shared.server.url}/openapi.json",
        f"--seed={SEED}",
        # A handshake: what a plain GET gets is its refusal, which another test has.
        "--exclude-operation-id=get_v1_responses",
        "--no-color",
        *options,
        cwd=folder,
    )


@pytest.mark.timeout(120)
async def test_every_route_is_as_documented(shared: Shared, tmp_path: Path) -> None:
    await check(shared, tmp_path, "--phases=examples,coverage,fuzzing", "--max-examples=5")


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_every_route_is_as_documented_for_long(shared: Shared, tmp_path: Path) -> None:
    await check(shared, tmp_path, "--max-examples=100")
