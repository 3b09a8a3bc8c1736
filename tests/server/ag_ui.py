"""The input of a run of AG-UI, and helpers for the events of its answer."""

from __future__ import annotations

import json
from typing import Any

API = "/v1/ag-ui"
HELLO: dict[str, Any] = {"id": "m1", "role": "user", "content": "Why is the sky blue?"}
BODY: dict[str, Any] = {
    "threadId": "thread-1",
    "runId": "run-1",
    "messages": [HELLO],
    "tools": [],
    "context": [],
    "state": {},
    "forwardedProps": {},
}


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line[:6] == "data: "]


def types(found: list[Any]) -> list[str]:
    return [event["type"] for event in found]
