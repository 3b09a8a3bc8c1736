"""Faults of the model's endpoint: lost connections, and wrong replies to reconnecting workers."""

from __future__ import annotations

import asyncio

from tests.chaos.faults import Fault, Faults
from tests.fake_background import RUDE


async def model_cut(f: Faults) -> str:
    """Resets half of the connections on which the endpoint sends answers."""
    number = f.model.cut(lambda wires: f.rng.sample(wires, (len(wires) + 1) // 2))
    return f"{number} connections" if number else ""


async def model_rude(f: Faults) -> str:
    """Lets the endpoint reply wrongly to workers that reconnect to an answer."""
    f.model.background.rude, seconds = f.rng.choice(RUDE), f.rng.uniform(0.5, 2.0)
    await asyncio.sleep(seconds)
    rude, f.model.background.rude = f.model.background.rude, ""
    return f"{rude} {seconds:.2f} s"


KINDS: dict[str, Fault] = {"model.cut": model_cut, "model.rude": model_rude}
