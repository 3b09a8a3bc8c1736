"""Tests with the unmodified Schemathesis that every route conforms to `/openapi.json`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.paths.conftest import Shared
from tests.programs.running import environment
from tests.system import run_command

SCHEMATHESIS = environment("schemathesis") / "schemathesis"
SEED = "7"
# The schema cannot express four rules: a function call's result needs the call, a tool choice needs
# the chosen tool, a file needs its data or its id, and `after` needs an existing item.
CONFIG = """
[[operations]]
include-path-regex = "ag-ui|ai-sdk|chat/completions|responses|conversations/.*items$|conversations$"
[operations.checks]
positive_data_acceptance.enabled = false

# The default list lacks 413, which an invalid body that is also too large gets.
[checks.negative_data_rejection]
expected-statuses = [
  "400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429", "5xx",
]
"""


@pytest.mark.heavy
@pytest.mark.timeout(900)
async def test_every_route_conforms_to_openapi_json(shared: Shared, tmp_path: Path) -> None:
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    await run_command(
        str(SCHEMATHESIS),
        "run",
        f"{shared.server.url}/openapi.json",
        f"--seed={SEED}",
        # This route is a WebSocket handshake. Another test checks that the route rejects a plain
        # GET.
        "--exclude-operation-id=get_v1_responses",
        "--max-examples=100",
        "--no-color",
        cwd=tmp_path,
    )
