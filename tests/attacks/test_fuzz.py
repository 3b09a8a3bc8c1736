"""Runs the fuzzer for a few seconds: once with a fixed seed and once with a new seed."""

from __future__ import annotations

import os
import random

import pytest

from server.api.client_messages import MESSAGE_TYPES
from server.app import create_app
from server.config import Config
from tests.attacks.conftest import Target
from tests.attacks.fuzz import MESSAGES, SOCKETS, fuzz
from tests.websocket_routes import websocket_routes

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 3)
pytestmark = pytest.mark.timeout(120 + 3 * SECONDS)


@pytest.mark.parametrize("kind", ["fixed", "fresh"])
async def test_fuzzed_input_causes_no_server_error(target: Target, kind: str) -> None:
    seed = 1 if kind == "fixed" else random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    seen = await fuzz(target.url, SECONDS, seed)
    print(dict(seen))
    assert all(seen[f"socket at {path}"] for path in SOCKETS)
    assert seen["decoders"]


def test_the_fuzzer_covers_every_websocket_route_and_every_message() -> None:
    assert websocket_routes(create_app(Config.from_environ({}))) == SOCKETS.keys()
    assert MESSAGE_TYPES.keys() == {message["type"] for message in MESSAGES}
