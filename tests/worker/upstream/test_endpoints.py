"""Tests that the worker turns recorded replies of real endpoints into the expected responses.

`tests/vectors/endpoints/NAME` holds a request, the endpoint's replies, and the expected result.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.log.codec import Event
from jobs.log.response_state import ResponseState
from tests.replay import ReplayedEndpoint, replies_of
from tests.worker.conftest import MakeHarness
from tests.worker.harness import Harness

VECTORS = sorted(path for path in (Path(__file__).parents[2] / "vectors" / "endpoints").iterdir())


def models_file(folder: Path, url: str, api: str) -> str:
    path = folder / "models.toml"
    path.write_text(f'[models.m]\nbase_url = "{url}"\napi = "{api}"\n')
    return str(path)


def shown(item: dict[str, Any]) -> dict[str, Any]:
    """Returns the item in the format of the test vectors."""
    if item["type"] == "function_call":
        return {name: item[name] for name in ("type", "name", "arguments")}
    texts = [part.get("text") or part.get("refusal") or "" for part in item["content"]]
    return {"type": item["type"], "text": "".join(texts)}


def deltas(events: list[Event]) -> dict[int, str]:
    """Returns each item's text, joined from its deltas as a client shows it."""
    texts: dict[int, str] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            texts[event["output_index"]] = texts.get(event["output_index"], "") + event["delta"]
    return texts


async def ended(harness: Harness, **request: Any) -> tuple[str, str | None, list[Event]]:
    """Runs one attempt; returns the response's status, its failure code, and its events."""
    view = await harness.execute(request.pop("input"), **request)
    events = await harness.events(harness.only)
    code: str | None = view.reason
    if view.status.ended:
        response = events[-1]["response"]
        code = (response["error"] or {}).get("code")
        assert response["output"] == ResponseState(events[:-1]).output
    return str(view.status), code, events


@pytest.mark.parametrize("vector", VECTORS, ids=lambda path: path.name)
async def test_the_replies_of_an_endpoint_lead_to_the_expected_response(
    vector: Path, make_harness: MakeHarness, tmp_path: Path
) -> None:
    case = json.loads((vector / "case.json").read_text())
    expected = case["expected"]
    async with (
        ReplayedEndpoint(replies_of(vector)) as endpoint,
        make_harness(HOLDLINE_MODELS=models_file(tmp_path, endpoint.url, case["api"])) as harness,
    ):
        status, code, events = await ended(harness, **case["request"])
    assert (expected["status"], expected.get("code")) == (status, code)
    if "calls" in expected:
        assert expected["calls"] == len(endpoint.bodies)
    if not events[-1]["type"].startswith("response.") or "response" not in events[-1]:
        return
    response = events[-1]["response"]
    assert expected["output"] == [shown(item) for item in response["output"]]
    if "usage" in expected:
        usage = response["usage"]
        assert expected["usage"] == [usage["input_tokens"], usage["output_tokens"]]
    told = [item.get("arguments", item.get("text")) for item in expected["output"]]
    assert told == [text for _, text in sorted(deltas(events).items())]
