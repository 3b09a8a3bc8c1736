"""The cost of each token is bounded by counting function calls, which is exact, unlike timing.

A failure means that a token became more expensive for every answer. Raise the bound only if the
benefit is worth the cost, and explain why; lower it when a count has fallen.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from tests.worker.harness import Harness

ROOT = Path(__file__).parents[3]
OURS = tuple(f"{ROOT / name}{os.sep}" for name in ("jobs", "worker"))
FEW, MANY = 50, 450


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    """Counts the calls of the project's functions by name."""
    calls: Counter[str] = Counter()

    def called(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS):
            calls[code.co_name] += 1

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        yield calls
    finally:
        sys.setprofile(before)


async def test_a_token_costs_no_function_call_of_its_own(
    harness: Harness,
) -> None:
    """No function of the project is called for each token.

    Tokens that arrive together are split into events and decoded by compiled functions. The calls
    for each read, each append and each compacted entry are shared by many tokens.
    """
    await harness.execute(f"mode=fast tokens={FEW}")
    found = []
    for tokens in (FEW, MANY):
        with counted() as calls:
            await harness.execute(f"mode=fast tokens={tokens}")
        found.append(calls)
    few, many = found
    assert few["take_texts"] > 0  # calls are counted
    more = (many - few).most_common(1)
    assert not more or more[0][1] < (MANY - FEW) / 2, more
