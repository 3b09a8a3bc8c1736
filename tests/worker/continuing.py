"""Steps of tests in which a model continues the text of an interrupted call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from jobs.log.codec import Event
from jobs.log.events import CONTINUED, RESTARTED
from jobs.steers import Steer
from tests.fake_continuing import answer
from tests.fake_model import FakeModel
from tests.fake_wire import Script
from tests.system import wait_until
from tests.worker.harness import Harness, said

if TYPE_CHECKING:
    from tests.worker.conftest import MakeHarness

MODELS = """
[models.m]
base_url = "{url}"
continues = "{kind}"
{more}
[models.n]
base_url = "{other}"
"""
KINDS = ("vllm", "prefix", "assistant")
TOKENS = 20
TEXT = "".join(answer(Script(tokens=TOKENS)))

Going: TypeAlias = Callable[..., contextlib.AbstractAsyncContextManager[Harness]]


@pytest.fixture
def going(make_harness: MakeHarness, model: FakeModel, tmp_path: Path) -> Going:
    """Returns a function that makes a harness whose model continues texts."""

    @contextlib.asynccontextmanager
    async def make(
        kind: str = "assistant", more: str = "", other: str = "http://127.0.0.1:9", **environ: str
    ) -> AsyncIterator[Harness]:
        path = tmp_path / "models.toml"
        path.write_text(MODELS.format(url=model.url, kind=kind, more=more, other=other))
        settings = {"HOLDLINE_MODELS": str(path), "HOLDLINE_MAX_ATTEMPTS": "50"} | environ
        async with make_harness(**settings) as harness:
            yield harness

    return make


def kinds(events: list[Event], *wanted: str) -> list[str]:
    return [
        event["type"] for event in events if event["type"] in (wanted or (CONTINUED, RESTARTED))
    ]


async def start(
    harness: Harness, prompt: Any, until: int = 65, **params: Any
) -> asyncio.Task[None]:
    """Starts an attempt, and returns when the log has a text of at least `until` characters."""
    if not harness.ids:
        await harness.submit(prompt, **params)
    running = asyncio.create_task(harness.execution(await harness.claim()).run())

    async def grown() -> bool:
        return len(said(await harness.events(harness.only))) >= until

    await wait_until(grown)
    return running


async def lose(running: asyncio.Task[None]) -> None:
    """Kills the attempt, as if its worker had died."""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def sent(model: FakeModel) -> str:
    """Returns what all calls together have sent, without spaces.

    The space at the end of a text is not sent to the endpoint, so that it comes twice.
    """
    return "".join(call.sent for call in model.calls).replace(" ", "")


async def steer(harness: Harness) -> None:
    item = {"type": "message", "role": "user", "content": "Stop.", "id": "", "status": "completed"}
    await harness.context.queue.steers.add(
        harness.only, Steer("s", [item], 100_000), key="s", fingerprint="f", max_bytes=9000
    )


async def ended(harness: Harness, attempts: int = 3) -> list[Event]:
    """Runs attempts until the response ends, and returns its events."""
    for _ in range(attempts):
        await harness.execution(await harness.claim()).run()
        if (await harness.view(harness.only)).status.ended:
            break
    return await harness.events(harness.only)
