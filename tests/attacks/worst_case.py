"""The most expensive requests that a client can send, just within or just beyond the limits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

from server.api.json_body import MAX_VALUES

BODY_BYTES = 1_048_576
# The fake model sends only headers, so the job never ends and stays with its worker.
HOLD = "mode=headers"
LARGE = "x" * 900_000

Body = Callable[[str], bytes]


def request(**members: Any) -> bytes:
    body = {"background": True, "model": "m", "input": HOLD, **members}
    return json.dumps(body, separators=(",", ":")).encode()


def request_with_items(*items: Any) -> bytes:
    return request(input=[*items, {"role": "user", "content": HOLD}])


def references(count: int) -> Body:
    return lambda item_id: request_with_items(*[{"type": "item_reference", "id": item_id}] * count)


def tool(**parameters: Any) -> dict[str, Any]:
    return {"type": "function", "name": "f", "parameters": parameters}


def part(text: str = "") -> dict[str, Any]:
    return {"type": "input_text", "text": text}


def call(number: int) -> list[dict[str, Any]]:
    called = {"type": "function_call", "call_id": f"c{number}", "name": "f", "arguments": "{}"}
    return [called, {"type": "function_call_output", "call_id": f"c{number}", "output": "x"}]


VALUES = MAX_VALUES - 100
# Maps each case to a function and the expected status. The function takes the id of a stored 900
# KB item and returns a request body.
CASES: dict[str, tuple[Body, int]] = {
    "560 references to a large item": (references(560), 400),
    "1000 references to a large item": (references(1000), 400),
    "4 references to a large item": (references(4), 200),
    "a megabyte of empty objects": (lambda _: b'{"input": [' + b"{}," * 349_000 + b"{}]}", 400),
    "the maximum number of empty objects": (lambda _: request(tools=[tool(a=[{}] * VALUES)]), 200),
    "the maximum number of keys": (
        lambda _: request(tools=[tool(**{f"{n:x}": 0 for n in range(VALUES)})]),
        200,
    ),
    "the maximum number of parts": (
        lambda _: request_with_items({"role": "user", "content": [part()] * 28_000}),
        200,
    ),
    "the maximum number of items": (
        lambda _: request_with_items(*[{"role": "user", "content": "x"}] * 9_900),
        200,
    ),
    "more than the maximum number of items": (
        lambda _: request_with_items(*[{"role": "user", "content": "x"}] * 12_000),
        400,
    ),
    "a history of calls": (
        lambda _: request_with_items(*[one for n in range(4_900) for one in call(n)]),
        200,
    ),
    "a megabyte of nested lists": (lambda _: b'{"input":' + b"[" * 1_000_000, 400),
    "128 large tools": (
        lambda _: request(tools=[tool(a="y" * 7_900) | {"name": f"f{n}"} for n in range(128)]),
        200,
    ),
    "a long enum in a schema": (
        lambda _: request(
            text={
                "format": {
                    "type": "json_schema",
                    "name": "s",
                    "schema": {"enum": [f"{n:x}" for n in range(90_000)]},
                }
            }
        ),
        200,
    ),
    "a pattern that backtracks": (
        lambda _: request(tools=[tool(pattern="(a+)+$" * 150_000)]),
        200,
    ),
    "large metadata": (lambda _: request(metadata={"a": LARGE}), 400),
    "a megabyte of text": (lambda _: request(input=f"{HOLD} {LARGE}"), 200),
    "a body that inflates": (lambda _: gzip.compress(b"a" * 200_000_000, 1), 413),
}
# One case of each kind, for `make test`. Only `make nightly` has time to run all cases.
QUICK = (
    "560 references to a large item",
    "4 references to a large item",
    "a megabyte of empty objects",
    "the maximum number of empty objects",
    "the maximum number of items",
    "a body that inflates",
)
