"""The cost of each token is bounded by counting function calls, which is exact, unlike timing.

A failure means that a token became more expensive for every answer. Raise the bound only if the
benefit is worth the cost, and explain why; lower it when a count has fallen.
"""

from __future__ import annotations

from tests.costs import calls_of
from tests.worker.harness import Harness

FEW, MANY = 50, 450


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
        with calls_of("jobs", "worker") as calls:
            await harness.execute(f"mode=fast tokens={tokens}")
        found.append(calls)
    few, many = found
    assert few["take_texts"] > 0  # calls are counted
    more = (many - few).most_common(1)
    assert not more or more[0][1] < (MANY - FEW) / 2, more
